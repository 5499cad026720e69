"""Hints never answer for other bytes, whatever a world of disks, images, clocks and programs does to stat data."""

from __future__ import annotations

import hashlib
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepkg.state.file_identity import SETTLED_NS, FileIdentity
from fusepkg.state.hints import Hints

TICK_NS = 4_000_000

steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0, TICK_NS, SETTLED_NS // 2, SETTLED_NS, 2 * SETTLED_NS])),
        st.tuples(st.just("write"), st.integers(0, 2)),
        st.tuples(st.just("set mtime back"), st.just(0)),
        st.tuples(st.just("mount another image"), st.integers(0, 2)),
        st.tuples(st.just("attach another image of one UUID"), st.integers(0, 2)),
        st.tuples(st.just("mount the disk"), st.just(0)),
        st.tuples(st.just("mount another disk"), st.just(0)),
    ),
    max_size=30,
)


inodes = count(2)


@pytest.fixture(scope="module")
def hints(tmp_path_factory: pytest.TempPathFactory):
    hints = Hints(tmp_path_factory.mktemp("hints"))
    yield hints
    hints.close()


class World:
    """One path, at which file systems come and go; all of them have the device number 7 and one inode."""

    def __init__(self) -> None:
        self.inode = next(inodes)  # no example sees the hints of another
        self.now_ns = 1_700_000_000_000_000_001
        self.mounts = 0
        self.contents = {"disk ext4 a": 0, "disk ext4 b": 0}
        self.times = dict.fromkeys(self.contents, (self.now_ns, self.now_ns))
        self.at = "disk ext4 a"

    def do(self, step: str, value: int) -> None:
        if step == "wait":
            self.now_ns += value
        elif step == "mount another image":
            self.mounts += 1
            self.at = f"mount boot {self.mounts}"
            self.contents[self.at], self.times[self.at] = value, (0, 0)
        elif step == "attach another image of one UUID":  # as a disk, by a tool that fixes times
            self.at = "disk ext4 image"
            self.contents[self.at], self.times[self.at] = value, (315532800 * 10**9,) * 2
        elif step == "mount the disk":
            self.at = "disk ext4 a"
        elif step == "mount another disk":
            self.at = "disk ext4 b"
        elif step == "write" and self.at in ("disk ext4 a", "disk ext4 b"):
            tick = self.now_ns - self.now_ns % TICK_NS + 1  # two writes within a tick have one time
            self.contents[self.at], self.times[self.at] = value, (tick, tick)
        elif step == "set mtime back" and self.at in ("disk ext4 a", "disk ext4 b"):
            self.times[self.at] = (0, self.now_ns - self.now_ns % TICK_NS + 1)

    def identity(self) -> FileIdentity:
        mtime, ctime = self.times[self.at]
        return FileIdentity(7, self.inode, 1, mtime, ctime, self.at)

    def chunks(self) -> tuple[bytes, ...]:
        return (hashlib.sha256(b"%d" % self.contents[self.at]).digest(),)


@given(steps)
@settings(max_examples=200)
def test_a_hint_is_right_or_missing(hints: Hints, steps: list[tuple[str, int]]) -> None:
    world = World()
    for step, value in steps:
        world.do(step, value)
        identity = world.identity()
        assert hints.chunk_hashes([identity]).get(identity, world.chunks()) == world.chunks()
        hints.remember_chunk_hashes({identity: world.chunks()}, read_at_ns=world.now_ns)
