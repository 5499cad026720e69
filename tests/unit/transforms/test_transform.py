"""A new package of an old one: what was done is not done again, and what fails is listed."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusepkg import Package
from fusepkg.api.entry import PackageEntry
from fusepkg.errors import KeyCollision, PublishError, TaskStopped, UsageError
from tests.command import Fusepkg
from tests.unit.transforms.functions import COUNT, Lossy, dies_at_first, doubled, told

ROOT = Path(__file__).parents[3]


def test_entries_keep_name_and_metadata_and_a_repeat_does_nothing(package: Package) -> None:
    made = package.map(doubled, out="local/out:v1", message="doubled")
    assert (made.done, made.reused, made.failures) == (COUNT, 0, ())
    assert len(made.package) == COUNT
    assert made.package.get("in/007.txt") == b"7\n7\n"
    assert made.package["in/001.txt"].meta == {"label": "one"}
    assert made.package.meta["transform"] == {
        "inputs": [f"local/in@{package.hash}"],
        "function": "tests.unit.transforms.functions.doubled",
        "version": made.package.meta["transform"]["version"],
        "names": "",
        "by": 1,
    }
    again = package.map(doubled, out="local/out:v1", message="doubled")
    assert (again.done, again.reused, again.package.hash) == (0, COUNT, made.package.hash)
    other = package.map(doubled, out="local/out:v2", version="2", names="in/00?.txt")
    assert (other.done, len(other.package)) == (10, 10)


def test_many_entries_in_one_call_and_results_of_other_names(package: Package) -> None:
    def joined(entries: list[PackageEntry]) -> dict[str, object]:
        first = entries[0].logical_key[3:6]
        return {f"shards/{first}.bin": (b"".join(entry.get_bytes() for entry in entries), {"count": len(entries)})}

    with ThreadPoolExecutor(2) as executor:
        made = package.map(joined, out="local/shards:v1", by=50, executor=executor)
    assert [entry.logical_key for entry in made.package] == [f"shards/{n}.bin" for n in ("000", "050", "100", "150")]
    assert made.package.get("shards/150.bin") == b"".join(b"%d\n" % number for number in range(150, COUNT))
    assert made.package["shards/150.bin"].meta == {"count": 10}


def test_what_fails_is_listed_and_tried_again(package: Package) -> None:
    wrong = {"in/003.txt"}

    def picky(entry: PackageEntry) -> bytes | None:
        if entry.logical_key in wrong:
            raise ValueError("not this one")
        return None if entry.logical_key == "in/004.txt" else entry.get_bytes()

    made = package.map(picky, out="local/out:v1", names="in/00?.txt")
    assert [str(failure) for failure in made.failures] == ["in/003.txt: ValueError: not this one"]
    assert len(made.package) == 8
    assert made.package.meta["transform"]["failures"] == ["in/003.txt: ValueError: not this one"]
    wrong.clear()
    made = package.map(picky, out="local/out:v1", names="in/00?.txt")
    assert (made.done, made.reused, made.failures, len(made.package)) == (1, 9, (), 9)


def test_what_progress_raises_ends_the_run(package: Package) -> None:
    """A task that was cancelled stops so."""

    def stop(_done: int, _total: int) -> None:
        raise TaskStopped("cancelled")

    with pytest.raises(TaskStopped):
        package.map(lambda entry: entry.get_bytes(), out="local/out:v1", progress=stop)
    assert Package("local/in:v1").map(lambda entry: entry.get_bytes(), out="local/out:v1").done == COUNT


def test_results_that_are_gone_are_made_again(package: Package, home: Path) -> None:
    made = package.map(doubled, out="local/out:v1", names="in/00?.txt")
    Path(made.package["in/005.txt"].physical_key.removeprefix("file://")).unlink()
    again = package.map(doubled, out="local/out:v1", names="in/00?.txt")
    assert (again.done > 0, again.package.hash) == (True, made.package.hash)
    assert again.package.get("in/005.txt") == b"5\n5\n"


def test_a_worker_that_dies_costs_what_it_had_in_hand(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    made = package.map(dies_at_first, out="local/out:v1", executor="processes", jobs=2)
    assert [failure.logical_keys for failure in made.failures] == [("in/100.txt",)]
    assert "its worker was lost: BrokenProcessPool" in made.failures[0].error
    assert len(made.package) == COUNT - 1
    assert made.package.get("in/070.txt") == b"70\n70\n"


def test_an_executor_that_loses_its_workers(package: Package) -> None:
    made = package.map(doubled, out="local/out:v1", executor=Lossy(9))
    assert "its worker was lost: BrokenProcessPool: gone" in made.failures[0].error
    assert len(made.package) + len(made.failures) == COUNT
    assert made.reused == 0
    again = package.map(doubled, out="local/out:v1")
    assert (again.reused, len(again.package), again.failures) == (len(made.package), COUNT, ())


def test_a_driver_that_is_killed_goes_on_where_it_was(package: Package) -> None:
    def start(out: str) -> subprocess.Popen[str]:
        program = [sys.executable, "-c", f"from tests.unit.transforms.functions import drive; drive({out!r})"]
        return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    with start("local/out:v1") as driver:
        assert driver.stdout is not None
        before = [driver.stdout.readline() for _ in range(COUNT // 2)]
        driver.kill()
        before += driver.stdout.readlines()  # ends when the workers have ended too
    with start("local/out:v1") as driver:
        assert driver.stdout is not None
        after = driver.stdout.readlines()
    assert driver.returncode == 0
    assert set(before) | set(after) == {f"in/{number:03}.txt\n" for number in range(COUNT)}
    assert len(set(before) & set(after)) < COUNT / 10
    undisturbed = package.map(told, out="local/undisturbed:v1")
    assert Package("local/out:v1").hash == undisturbed.package.hash


def test_what_cannot_be_is_refused(package: Package) -> None:
    for options, said in (
        ({"out": f"local/out@{'0' * 64}"}, "names a hash"),
        ({"executor": "cluster"}, "There are: dask, processes, ray, spark, threads"),
        ({"executor": 7}, "7 is no executor"),
        ({"jobs": 0}, "0 workers"),
        ({"by": 0}, "0 entries in each call"),
        ({"names": "*.jpg"}, "has no such file"),
        ({"names": "a/"}, "matches no file|has no such file"),
        ({"executor": "processes", "function": lambda _entry: b""}, "cannot be sent to other processes"),
    ):
        arguments = {"function": doubled, "out": "local/out:v1", **options}
        with pytest.raises(UsageError, match=said):
            package.map(**arguments)  # type: ignore[arg-type]  # wrong ones too
    with pytest.raises(PublishError, match=r"nothing came of any of 160 parts: in/000\.txt: the function gave a int"):
        package.map(lambda _entry: 7, out="local/out:v1")
    with pytest.raises(KeyCollision, match="two entries have become 'same'"):
        package.map(lambda entry: {"same": entry.get_bytes()}, out="local/out:v1", by=1, jobs=1)


def test_a_command_over_each_entry(package: Package, fusepkg: Fusepkg, tmp_path: Path) -> None:
    (script := tmp_path / "twice.sh").write_text('test "${1##*/}" != 009.txt && cat "$1" "$1" > "$2"\n')
    words = ["local/in:v1", "--to", "local/out:v1", "--names", "in/00[189].txt", "--suffix", ".out"]
    done = fusepkg("transform", *words, "--", "sh", script, "{in}", "{out}", check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "failed: in/009.txt: CommandFailed: exit code 1"
    assert Package("local/out:v1").get("in/001.out") == b"1\n1\n"
    assert Package("local/out:v1")["in/001.out"].meta == {"label": "one"}
    script.write_text('cat "$1" "$1" > "$2"\n')  # the code has changed: all is done again
    done = fusepkg("transform", *words, "--json", "--", "sh", script, "{in}", "{out}")
    assert (json.loads(done.stdout)["done"], json.loads(done.stdout)["failures"]) == (3, [])
    words = ["local/in:v1", "--to", "local/tars:v1", "--by", "100", "-j", "2"]
    fusepkg("transform", *words, "--", "sh", "-c", "cat {in}/in/* > {out}/$(ls {in}/in | head -n 1)")
    assert [entry.size for entry in Package("local/tars:v1")] == [290, 240]
    done = fusepkg("transform", "local/in:v1", "--to", "local/out:v1", "--", "cat", "{in}", check=False)
    assert (done.returncode, "the command has no {out}" in done.stderr) == (2, True)
