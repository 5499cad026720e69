"""Moving a mount to another version: what programs see that read meanwhile, and what is left of the old version."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fusepkg.daemon import control, records
from fusepkg.errors import FusepkgError, SwitchUnderWay
from tests.command import run_fusepkg
from tests.mount.mounting import POLL_S, ended, files_below
from tests.mount.mounting import mounted as mount_at
from tests.mount.places import Bucket
from tests.plugins.leftovers import mounts_below
from tests.proxy import Stall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Place

    MountFactory = Callable[..., AbstractContextManager[Mount]]

pytestmark = pytest.mark.fuse

TIMEOUT_S = 30
"""Until something that takes milliseconds has happened."""


def switch(mount: Mount, target: str) -> dict[str, Any]:
    """What `fusepkg switch` asks for."""
    return control.ask(Path(mount.record.socket), control.Question("switch", target))


def wait_until(has_happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not has_happened():
        assert time.monotonic() < deadline, f"{what}: not after {TIMEOUT_S} s"
        time.sleep(POLL_S)


def tree_of(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in files_below(root)}


def resources(mount: Mount) -> tuple[int, int, int]:
    """Descriptors and indexes the daemon has open, and mounts at the directory."""
    descriptors = [os.readlink(path) for path in Path(f"/proc/{mount.record.pid}/fd").iterdir() if path.is_symlink()]
    indexes = sum("/index/" in name for name in descriptors)
    return len(descriptors), indexes, len(mounts_below(mount.root))


def resources_now(mount: Mount) -> tuple[int, int, int]:
    while True:
        try:
            return resources(mount)
        except FileNotFoundError:  # closed while we looked
            continue


def test_a_switch_shows_the_other_version(mount: MountFactory, fusepkg: Fusepkg, originals: Originals):
    """`fusepkg switch DIR TAG` shows another version at the same directory, in names, bytes, attributes and records."""
    with mount("small:v1") as mounted:
        assert tree_of(mounted.root) == tree_of(originals.small)
        before = (mounted / "README.md").stat()
        assert not (mounted / "new.txt").exists()  # which the kernel remembers
        said = fusepkg("switch", mounted.root, "v2")
        assert said.stdout.startswith(f"Switched {mounted.root} from {mounted.record.reference}")
        assert tree_of(mounted.root) == tree_of(originals.later)
        assert (mounted / "README.md").stat().st_mtime != before.st_mtime
        record, _ = records.find_record(mounted.root)
        assert record.reference.endswith("small:v2")
        assert (record.pid, record.mount_id) == (mounted.record.pid, mounted.record.mount_id)
        assert record.top_hash in fusepkg("hash", mounted.root).stdout
        assert fusepkg("verify", mounted.root).returncode == 0
        top = os.stat(mounted.root).st_dev
        assert record.device == f"{os.major(top)}:{os.minor(top)}"
        switch(mounted, f"@{mounted.record.top_hash[:12]}")
        assert tree_of(mounted.root) == tree_of(originals.small)


def test_what_is_open_stays(mount: MountFactory, originals: Originals):
    """Open files, mapped files and listings go on in their version; what it needed ends with the last of them."""
    with mount("small:v1") as mounted:
        size = len((originals.small / "large.bin").read_bytes())
        large = os.open(mounted / "large.bin", os.O_RDONLY)
        readme = (mounted / "README.md").open("rb")
        mapped = mmap.mmap(readme.fileno(), 0, access=mmap.ACCESS_READ)
        listed = os.scandir(mounted.root)
        names = [next(listed).name]
        assert switch(mounted, "v2")["changed"]
        assert (mounted / "README.md").read_text() == "# A later dataset\n"
        os.posix_fadvise(readme.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        names += [entry.name for entry in listed]
        assert sorted(names) == sorted(os.listdir(originals.small))
        assert sorted(os.listdir(mounted.root)) == sorted(os.listdir(originals.later))
        assert (readme.read(), bytes(mapped)) == (b"# A dataset\n", b"# A dataset\n")
        assert os.pread(large, size, 0) == (originals.small / "large.bin").read_bytes()
        indexes = resources_now(mounted)[1] // 2
        os.close(large)
        mapped.close()
        readme.close()
        listed.close()
        wait_until(lambda: resources_now(mounted)[1] <= indexes, "the old version's files are closed")
        assert tree_of(mounted.root) == tree_of(originals.later)


def test_a_directory_in_use_stays(mount: MountFactory, originals: Originals):
    """A program that works in a directory below the root, or has it open, goes on in its version of it."""
    with mount("small:v1") as mounted:
        directory = os.open(mounted / "train" / "class0", os.O_RDONLY | os.O_DIRECTORY)
        try:
            switch(mounted, "v2")
            assert not (mounted / "train" / "class0" / "0.bin").exists()
            assert "0.bin" in os.listdir(directory)
            kept = os.open("0.bin", os.O_RDONLY, dir_fd=directory)
            try:
                assert os.pread(kept, 1 << 20, 0) == (originals.small / "train/class0/0.bin").read_bytes()
            finally:
                os.close(kept)
        finally:
            os.close(directory)


@dataclass
class Readers:
    """Threads that read a mount over and over, and compare every byte with both versions."""

    root: Path
    versions: list[dict[str, bytes]]
    wrong: list[str] = field(default_factory=list)
    files: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        names = sorted({name for version in self.versions for name in version})
        listings = [sorted({name.partition("/")[0] for name in version}) for version in self.versions]
        while not self.stopped.is_set():
            for name in names:
                self.look_at(name)
            seen = sorted(name for name in os.listdir(self.root) if any(name in names for names in listings))
            if seen not in listings:
                self.wrong.append(f"a listing of no version: {seen}")

    def look_at(self, name: str) -> None:
        possible = [version.get(name) for version in self.versions]
        try:
            with open(self.root / name, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                found: bytes | None = file.read()
        except FileNotFoundError:
            found = None
        except OSError as exc:
            self.wrong.append(f"{name}: {exc}")
            return
        self.files += 1
        if found not in possible:
            self.wrong.append(f"{name}: bytes of no version")


def switch_under_load(mounted: Mount, originals: Originals, switches: int) -> Readers:
    readers = Readers(mounted.root, [tree_of(originals.small), tree_of(originals.later)])
    threads = [threading.Thread(target=readers.run) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(switches):
            assert switch(mounted, "v1" if number % 2 else "v2")["changed"]
            expected = readers.versions[(number + 1) % 2]
            assert (mounted / "README.md").read_bytes() == expected["README.md"]  # the switch is done when it says so
            assert (mounted / "new.txt").exists() == ("new.txt" in expected)
            readers.stopped.wait(0.2)
    finally:
        readers.stopped.set()
        for thread in threads:
            thread.join()
    return readers


def test_switch_under_load(mount: MountFactory, place: Place, originals: Originals):
    """While a mount is switched again and again, readers get each file wholly of one version and no error.

    What the versions have in common is fetched once, and each switch is seen by whoever looks after it.
    """
    with mount("small:v1") as mounted:
        readers = switch_under_load(mounted, originals, 8)
        assert readers.wrong == []
        assert readers.files > 100
        if isinstance(place, Bucket):
            fetched = [request.key for request in place.data_requests() if request.method == "GET"]
            whole = [key for key in fetched if "large" not in key]  # of that, each chunk once
            assert len(whole) == len(set(whole))


@pytest.mark.stress
def test_switch_under_load_for_long(mount: MountFactory, originals: Originals):
    """As above, for two minutes."""
    with mount("small:v1") as mounted:
        readers = switch_under_load(mounted, originals, 600)
        assert readers.wrong == []


def switch_storm(mounted: Mount, switches: int) -> None:
    switch(mounted, "v2")
    switch(mounted, "v1")
    descriptors, indexes, mounts = resources_now(mounted)
    for number in range(switches):
        switch(mounted, "v1" if number % 2 else "v2")
        with (mounted / "README.md").open("rb") as file:
            assert file.read(3) == b"# A"
    wait_until(lambda: resources_now(mounted)[1] <= indexes, "old versions are closed")
    now = resources_now(mounted)
    assert now[0] <= descriptors + 8, "descriptors of the cache's own may come and go"
    assert now[2] == mounts == 1


def test_switch_storm(mount: MountFactory, fusepkg: Fusepkg):
    """Many switches leak no descriptor, no mount and no process; `umount` then ends all."""
    with mount("small:v1") as mounted:
        switch_storm(mounted, 40)
        fusepkg("umount", mounted.root)
        assert ended(mounted.record.pid)
        assert mounts_below(mounted.root) == []


@pytest.mark.stress
def test_a_thousand_switches(mount: MountFactory):
    """As above, a thousand times."""
    with mount("small:v1") as mounted:
        switch_storm(mounted, 1000)


LISTING = """
import os, sys
root = sys.argv[1]
number = 0
while True:
    os.listdir(root)
    os.path.exists(f"{root}/nothing{number}")
    with open(root + "/run.sh", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.read()
    number += 1
"""


def switch_until_killed(mounted: Mount) -> None:
    number = 0
    with suppress(FusepkgError):
        while True:
            switch(mounted, "v1" if number % 2 else "v2")
            number += 1


def test_kill9_mid_switch(folder: Place, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A mount without a supervisor that is killed while it is switched ends: its readers get errors, none hangs."""
    for name, value in folder.settings.items():
        monkeypatch.setenv(name, value)
    for moment_s in (0.2, 0.3):
        with ExitStack() as until_end, mount_at(folder.reference("small:v1"), tmp_path / "m", engine) as mounted:
            command = [sys.executable, "-c", LISTING, mounted.root]
            readers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(4)]
            for reader in readers:
                until_end.enter_context(reader)
                until_end.callback(reader.kill)
            for version in ("v2", "v1"):
                switch(mounted, version)  # both indexes are built
            thread = threading.Thread(target=switch_until_killed, args=(mounted,))
            thread.start()
            try:
                thread.join(moment_s)
                os.kill(mounted.record.pid, signal.SIGKILL)
                assert ended(mounted.record.pid)
                wait_until(lambda: all(one.poll() is not None for one in readers), "readers get errors")  # noqa: B023
            finally:
                subprocess.run(["umount", "-f", mounted.root], capture_output=True, check=False)  # whoever hangs
                thread.join()


@pytest.fixture
def broken_manifest(place: Place, originals: Originals, tmp_path: Path) -> Iterator[str]:
    """A tag whose manifest was damaged after it was pushed."""
    folder = shutil.copytree(originals.small, tmp_path / "folder", symlinks=True)
    (folder / "more").write_text(str(tmp_path))
    tag = "damaged"
    place.publish(folder, f"small:{tag}")
    top_hash = run_fusepkg("hash", place.reference(f"small:{tag}"), env=place.settings).stdout.strip()
    key = f".quilt/PACKAGE=small/HASH_PREFIX={top_hash[:2]}/{top_hash}.jsonl"
    place.put_registry(key, b'{"version": "v0"}\n{"nonsense"\n')
    yield tag
    place.publish(folder, f"small:{tag}")


def test_a_failed_switch_changes_nothing(
    mount: MountFactory, place: Place, fusepkg: Fusepkg, originals: Originals, broken_manifest: str
):
    """A switch that fails leaves the mount as it was: no such tag or hash, another package, a damaged manifest."""
    with mount("small:v1") as mounted:
        for target, said in (
            ("nope", "has no tag 'nope'"),
            (f"@{'0' * 64}", "000"),
            (f"{place.bucket}/big:v1", "is another package"),
            ("no/../tag", "is not a package name"),
            (broken_manifest, "manifest"),
        ):
            failed = fusepkg("switch", mounted.root, target, check=False)
            assert failed.returncode not in (0, 1), target
            assert said in failed.stderr
            assert "Traceback" not in failed.stderr
        assert "already: nothing to do" in fusepkg("switch", mounted.root, "v1").stdout
        assert fusepkg("switch", mounted / "train", "v2", check=False).returncode == 2
        assert fusepkg("switch", mounted.root, check=False).returncode == 2
        with place.gone():
            failed = fusepkg("switch", mounted.root, "v2", check=False)
            assert failed.returncode != 0
        assert tree_of(mounted.root) == tree_of(originals.small)
        assert records.find_record(mounted.root)[0] == mounted.record
        assert switch(mounted, "v2")["changed"]


@pytest.mark.s3
def test_one_switch_at_a_time(bucket: Bucket, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While a switch is under way, a second one is refused, and nothing of the first is lost."""
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    with mount_at(bucket.reference("small:v1"), tmp_path / "m", engine) as mounted:
        bucket.proxy.forget()
        bucket.proxy.fail(Stall(), when=lambda request: "tags" in request.key or "tags" in str(request.query))
        failures: list[FusepkgError] = []

        def first() -> None:
            try:
                switch(mounted, "v2")
            except FusepkgError as exc:
                failures.append(exc)

        thread = threading.Thread(target=first)
        thread.start()
        try:
            bucket.proxy.wait_for(1)
            with pytest.raises(SwitchUnderWay):
                switch(mounted, "v2")
        finally:
            bucket.proxy.heal()
            thread.join()
        assert failures == []
        assert (mounted / "README.md").read_text() == "# A later dataset\n"


def test_a_dry_run_tells_what_would_change(mount: MountFactory, fusepkg: Fusepkg):
    """`switch --dry-run` tells how many files would be added, removed and modified, and names some; none changes."""
    with mount("small:v1") as mounted:
        facts = json.loads(fusepkg("switch", mounted.root, "v2", "--dry-run", "--json").stdout)
        assert facts["changed"]
        assert (facts["changes"]["added"], facts["changes"]["removed"], facts["changes"]["modified"]) == (1, 1, 1)
        assert facts["changes"]["names"]["removed"] == ["train/class0/0.bin"]
        assert "+ new.txt" in fusepkg("switch", mounted.root, "v2", "--dry-run").stdout
        assert (mounted / "README.md").read_text() == "# A dataset\n"


def test_following_a_tag(
    mount: MountFactory, place: Place, originals: Originals, fusepkg: Fusepkg, monkeypatch: pytest.MonkeyPatch
):
    """A mount that follows a tag shows what it names, also after it has moved, until `--no-follow` or a switch."""
    monkeypatch.setenv("FUSEPKG_FOLLOW_INTERVAL", "0.1")
    place.publish(originals.small, "small:moving")
    with mount("small", "--follow", "moving") as mounted:
        assert mounted.record.reference.endswith("small:moving")
        assert "follows moving" in fusepkg("mounts").stdout
        place.publish(originals.later, "small:moving")
        wait_until(lambda: (mounted / "README.md").read_text() == "# A later dataset\n", "the tag is followed")
        with place.gone():
            wait_until(lambda: bool(mounted.status()["follow"]["failure"]), "the failure is told")
            status = fusepkg("status", mounted.root).stdout
            assert "Follows: the tag moving" in status
            assert "Cannot follow since" in status
        wait_until(lambda: not mounted.status()["follow"]["failure"], "it is followed again")
        assert mounted.log().count("cannot be followed just now") == 1
        assert "does not follow the tag moving any more" in fusepkg("switch", mounted.root, "v1").stderr
        assert mounted.status()["follow"] is None
        assert (mounted / "README.md").read_text() == "# A dataset\n"
        fusepkg("switch", mounted.root, "--follow", "moving")
        assert (mounted / "README.md").read_text() == "# A later dataset\n"
        fusepkg("switch", mounted.root, "--no-follow")
        assert records.find_record(mounted.root)[0].follow is None


def test_following_another_tag_than_the_named_one_is_refused(place: Place, fusepkg: Fusepkg, tmp_path: Path):
    """`mount REF:TAG DIR --follow OTHER` is refused: it names two versions."""
    said = fusepkg("mount", place.reference("small:v1"), tmp_path, "--follow", "v2", check=False)
    assert said.returncode == 2
    assert "names another version" in said.stderr
