"""Pipelines in DVC's files: when a stage runs, what is noted of it, and what is refused before anything runs."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from fusepkg.app.context import Context
from fusepkg.app.settings import Flags, decide
from fusepkg.dvc.files import parse_yaml
from fusepkg.errors import FusepkgError, RemoteUnavailable, RepositoryUnfit, TaskError, UsageError
from fusepkg.pipeline import run as pipelines
from fusepkg.pipeline import versions
from fusepkg.pipeline.adding import add_stage
from fusepkg.pipeline.hashes import hash_path
from fusepkg.pipeline.repository import read_pipeline
from fusepkg.pipeline.stages import Out
from fusepkg.pipeline.versions import versions_at
from tests.command import Fusepkg

PIPELINE = """\
# how the pictures are made
stages:
  clean:  # first
    cmd: cat raw/a raw/b > clean.txt; echo clean >> runs
    deps:
    - raw
    outs: [clean.txt]
  count:
    cmd:
    - wc -c < clean.txt > count.txt
    - echo count >> runs
    deps: [clean.txt]
    params:
    - model.rate
    outs:
    - count.txt:
        cache: false
"""


@pytest.fixture
def app(home: Path) -> Context:
    return Context(decide(Flags()))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two stages, of which none has run."""
    made = tmp_path / "place"
    (made / "raw").mkdir(parents=True)
    for name in "ab":
        (made / "raw" / name).write_text(name)
    (made / "params.yaml").write_text("model: {rate: 0.1, other: 1}\n")
    (made / "dvc.yaml").write_text(PIPELINE)
    monkeypatch.chdir(made)
    monkeypatch.setenv("SHELL", "/bin/sh")
    return made


def repro(app: Context, place: Path, *names: str, **options: Any) -> list[str]:
    """Run it; return the stages that ran."""
    return [one.name for one in pipelines.repro(app, read_pipeline(place), names, **options) if one.has_run]


def lock(place: Path) -> Any:
    return parse_yaml((place / "dvc.lock").read_bytes(), "dvc.lock", "safe")


def stages(place: Path, text: str) -> None:
    (place / "dvc.yaml").write_text("stages:\n" + text)


# --- when a stage runs ---------------------------------------------------------------------------------------


def test_a_stage_runs_when_its_inputs_command_or_outputs_changed_and_not_otherwise(app: Context, place: Path) -> None:
    assert repro(app, place) == ["clean", "count"]
    assert repro(app, place) == []
    (place / "raw/a").write_text("A")
    assert repro(app, place) == ["clean", "count"]
    (place / "params.yaml").write_text("model: {rate: 0.1, other: 2}\n")
    assert repro(app, place) == []
    (place / "params.yaml").write_text("model: {rate: 0.2, other: 2}\n")
    assert repro(app, place) == ["count"]
    (place / "dvc.yaml").write_text(PIPELINE.replace("raw/a raw/b", "raw/b raw/a"))
    assert repro(app, place) == ["clean", "count"]
    (place / "clean.txt").unlink()
    assert repro(app, place) == ["clean"], "what it made is as before, so that nothing after it runs"
    (place / "count.txt").write_text("by hand")
    assert repro(app, place, "clean") == []
    assert repro(app, place, "count") == ["count"]
    assert repro(app, place, force=True) == ["clean", "count"]


def test_touching_a_file_changes_nothing(app: Context, place: Path) -> None:
    repro(app, place)
    os.utime(place / "raw/a", (1, 1))
    before = (place / "dvc.lock").stat().st_ino
    assert repro(app, place) == []
    assert (place / "dvc.lock").stat().st_ino == before


def test_status_says_why(app: Context, place: Path, fusepkg: Fusepkg) -> None:
    assert fusepkg("stage", "status", cwd=place, check=False).stdout.splitlines()[0] == "clean: it has not run yet"
    repro(app, place)
    (place / "raw/c").write_text("c")
    done = fusepkg("stage", "status", "--json", cwd=place, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout) == [
        {"stage": "clean", "is_frozen": False, "why": ["dependency raw changed"]},
        {"stage": "count", "is_frozen": False, "why": []},
    ]
    assert fusepkg("dag", cwd=place).stdout == "clean\ncount <- clean\n"


def test_frozen_stages_never_run_and_others_always_may(app: Context, place: Path) -> None:
    stages(place, "  a: {cmd: echo >> runs, frozen: true}\n  b: {cmd: 'true', always_changed: true}\n")
    assert repro(app, place) == ["b"]
    assert repro(app, place) == ["b"]


# --- what is noted -------------------------------------------------------------------------------------------


def test_the_lock_has_the_hashes_of_dvc(app: Context, place: Path) -> None:
    repro(app, place)
    a, b, ab = (hashlib.md5(text).hexdigest() for text in (b"a", b"b", b"ab"))
    listed = f'[{{"md5": "{a}", "relpath": "a"}}, {{"md5": "{b}", "relpath": "b"}}]'.encode()
    made = {"path": "clean.txt", "hash": "md5", "md5": ab, "size": 2}
    assert lock(place)["schema"] == "2.0"
    assert lock(place)["stages"]["clean"] == {
        "cmd": "cat raw/a raw/b > clean.txt; echo clean >> runs",
        "deps": [
            {"path": "raw", "hash": "md5", "md5": hashlib.md5(listed).hexdigest() + ".dir", "size": 2, "nfiles": 2}
        ],
        "outs": [made],
    }
    assert lock(place)["stages"]["count"]["deps"] == [made]
    assert lock(place)["stages"]["count"]["params"] == {"params.yaml": {"model.rate": 0.1}}


def test_outputs_go_into_the_cache_where_dvc_looks_for_them(app: Context, place: Path) -> None:
    (place / ".dvc").mkdir()
    (place / ".dvc/config").touch()
    stages(place, "  a: {cmd: 'mkdir -p out/deep && echo x > out/deep/x', outs: [out]}\n")
    repro(app, place)
    cache = place / ".dvc/cache/files/md5"
    md5 = lock(place)["stages"]["a"]["outs"][0]["md5"]
    listed = json.loads((cache / md5[:2] / md5[2:]).read_text())
    assert [one["relpath"] for one in listed] == ["deep/x"]
    kept = cache / listed[0]["md5"][:2] / listed[0]["md5"][2:]
    assert kept.read_text() == "x\n"
    assert kept.stat().st_mode & 0o777 == 0o444
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {"", ".dir"}


def test_outputs_of_before_are_gone_when_a_stage_runs_unless_they_persist(app: Context, place: Path) -> None:
    stages(
        place,
        "  a: {cmd: 'mkdir -p out kept; touch out/$(cat raw/a) kept/$(cat raw/a)', deps: [raw/a],"
        " outs: [out, kept: {persist: true}]}\n",
    )
    repro(app, place)
    (place / "raw/a").write_text("other")
    repro(app, place)
    assert os.listdir(place / "out") == ["other"]
    assert sorted(os.listdir(place / "kept")) == ["a", "other"]


def test_adding_a_stage_keeps_comments_and_order(app: Context, place: Path, fusepkg: Fusepkg) -> None:
    (place / ".git").mkdir()
    fusepkg(
        "stage", "add", "-n", "sum", "-d", "count.txt", "-d", "./clean.txt", "-o", "sum.txt", "-O", "log",
        "-p", "model.rate,model.other", "-p", "p.json:", "--", "sh", "-c", "echo a b > sum.txt; touch log",
        cwd=place,
    )  # fmt: skip
    text = (place / "dvc.yaml").read_text()
    assert text.startswith(PIPELINE)
    assert parse_yaml(text.encode(), "", "safe")["stages"]["sum"] == {
        "cmd": "sh -c 'echo a b > sum.txt; touch log'",
        "deps": ["clean.txt", "count.txt"],
        "params": ["model.rate", "model.other", {"p.json": None}],
        "outs": [{"log": {"cache": False}}, "sum.txt"],
    }
    assert (place / ".gitignore").read_text() == "/sum.txt\n"
    (place / "p.json").write_text('{"a": [1]}')
    assert repro(app, place) == ["clean", "count", "sum"]
    again = fusepkg("stage", "add", "-n", "sum", "--", "true", cwd=place, check=False)
    assert "has a stage sum already" in again.stderr


# --- failing, stopping, side by side -------------------------------------------------------------------------


def test_a_failing_stage_is_not_noted_and_what_was_done_is(app: Context, place: Path) -> None:
    repro(app, place)
    before = lock(place)["stages"]["count"]
    (place / "raw/a").write_text("A")
    (place / "dvc.yaml").write_text(PIPELINE.replace("wc -c < clean.txt > count.txt", "exit 3"))
    with pytest.raises(TaskError, match="stage count failed with exit code 3: exit 3"):
        repro(app, place)
    assert lock(place)["stages"]["count"] == before
    assert lock(place)["stages"]["clean"]["outs"][0]["md5"] == hashlib.md5(b"Ab").hexdigest()
    (place / "dvc.yaml").write_text(PIPELINE)
    assert repro(app, place) == ["count"]


def test_a_stage_has_to_write_its_outputs(app: Context, place: Path) -> None:
    stages(place, "  a: {cmd: 'true', outs: [out]}\n")
    with pytest.raises(TaskError, match="out is not there"):
        repro(app, place)
    assert not (place / "dvc.lock").exists()


def test_a_change_while_a_stage_runs_shows_afterwards(app: Context, place: Path) -> None:
    stages(place, "  a: {cmd: 'cp raw/a out; echo other > raw/a', deps: [raw/a], outs: [out]}\n")
    assert repro(app, place) == ["a"]
    assert repro(app, place) == ["a"]


def test_stages_without_a_path_between_them_run_side_by_side(app: Context, place: Path) -> None:
    os.mkfifo(place / "meet")
    stages(place, "  a: {cmd: 'cat meet > out', outs: [out]}\n  b: {cmd: 'echo met > meet'}\n")
    assert sorted(repro(app, place, jobs=2)) == ["a", "b"]
    assert (place / "out").read_text() == "met\n"


def test_a_failing_stage_lets_those_beside_it_end(app: Context, place: Path) -> None:
    os.mkfifo(place / "meet")
    stages(
        place,
        "  a: {cmd: 'read b < meet; while kill -0 $b; do sleep 0.1; done; touch out', outs: [out]}\n"
        "  b: {cmd: 'echo $$ > meet; exit 1'}\n"
        "  c: {cmd: 'touch c', deps: [out], outs: [c]}\n",
    )
    with pytest.raises(TaskError, match="stage b failed"):
        repro(app, place, jobs=2)
    assert list(lock(place)["stages"]) == ["a"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_commands_and_leaves_a_true_lock(place: Path, number: signal.Signals) -> None:
    os.mkfifo(place / "said")
    stages(
        place,
        "  a: {cmd: touch a, outs: [a]}\n"
        "  b: {cmd: 'touch b; sh -c \"echo up; exec sleep 1000\" > said; true', deps: [a], outs: [b]}\n",
    )
    process = subprocess.Popen([sys.executable, "-m", "fusepkg", "repro"], cwd=place, stdout=subprocess.DEVNULL)
    try:
        with (place / "said").open() as said:
            assert said.readline() == "up\n"
            process.send_signal(number)
            assert process.wait(60) == 130
            assert said.read() == "", "ends when what the command started has ended"
    finally:
        process.kill()
        process.wait()
    assert list(lock(place)["stages"]) == ["a"]


def test_two_runs_at_a_time_are_refused(app: Context, place: Path, fusepkg: Fusepkg) -> None:
    stages(place, f"  a: {{cmd: '{sys.executable} -m fusepkg repro', always_changed: true}}\n")
    with pytest.raises(TaskError, match="exit code 15"):
        repro(app, place)


# --- versions ------------------------------------------------------------------------------------------------


def test_a_version_is_hashed_once(app: Context, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(versions, "hash_path", lambda path, *where: read.append(path) or hash_path(path, *where))
    tree = read_pipeline(place).tree
    mounted = replace(versions_at(app, tree), mounts=((place / "raw", "1" * 64),))
    assert mounted.hash(place / "raw") == mounted.hash(place / "raw") == hash_path(place / "raw", place, tree.ignores)
    assert mounted.hash(place / "raw/a").md5 == hashlib.md5(b"a").hexdigest()
    assert read == [place / "raw", place / "raw/a"]
    other = replace(mounted, mounts=((place / "raw", "2" * 64),))
    other.hash(place / "raw")
    assert len(read) == 3
    with pytest.raises(RepositoryUnfit, match="where a package is mounted"):
        mounted.refuse_mounted(place / "raw/new", "clean")


def test_tracked_data_is_hashed_once_for_each_version(
    app: Context, place: Path, fusepkg: Fusepkg, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", "--template="], cwd=place, check=True)
    fusepkg("init", "--git", cwd=place)
    fusepkg("track", "raw", cwd=place)
    assert repro(app, place) == ["clean", "count"]
    read: list[Path] = []
    monkeypatch.setattr(versions, "hash_path", lambda path, *where: read.append(path) or hash_path(path, *where))
    assert repro(app, place) == []
    assert place / "raw" not in read
    (place / "raw/a").write_text("changed, and not tracked again")
    assert repro(app, place) == ["clean", "count"]
    assert place / "raw" in read


# --- data that DVC tracks ------------------------------------------------------------------------------------


def test_data_that_dvc_tracks_is_noted_in_its_own_file_before_stages_run(
    app: Context, place: Path, fusepkg: Fusepkg
) -> None:
    (place / ".dvc").mkdir()
    (place / ".dvc/config").touch()
    (place / "raw.dvc").write_text("# ours\nouts:\n- md5: 0.dir\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: raw\n")
    for name, rest in (("imported", "frozen: true\ndeps: [{path: elsewhere}]\n"), ("other", "")):
        (place / name).touch()
        (place / f"{name}.dvc").write_text(f"{rest}outs: [{{md5: '0', path: {name}, hash: md5}}]\n")
    stages(place, "  a: {cmd: touch out, deps: [raw/a, raw, imported], outs: [out]}\n")
    before = (place / "imported.dvc").read_text(), (place / "other.dvc").read_text()
    said = fusepkg("repro", cwd=place)
    assert "raw.dvc: its data has changed" in said.stdout
    assert "git add dvc.yaml dvc.lock raw.dvc\n" in said.stderr
    noted, fact = (place / "raw.dvc").read_text(), lock(place)["stages"]["a"]["deps"][1]
    assert noted.startswith("# ours\n")
    assert {"path": "raw", **parse_yaml(noted.encode(), "raw.dvc", "safe")["outs"][0]} == fact
    assert (place / ".dvc/cache/files/md5" / fact["md5"][:2] / fact["md5"][2:]).exists()
    assert ((place / "imported.dvc").read_text(), (place / "other.dvc").read_text()) == before
    assert "git add" not in fusepkg("repro", cwd=place).stderr


# --- what is elsewhere, and Python ---------------------------------------------------------------------------


@contextmanager
def web_server(marks: list[str]) -> Iterator[str]:
    """A server whose file has the first of ``marks`` as its ETag; none: nothing is there."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if marks else 404)
            if marks and marks[0]:
                self.send_header("ETag", marks[0])
            self.send_header("Content-Length", "7")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/data/file.csv"
        server.shutdown()


def test_a_url_is_a_dependency_by_what_its_server_says_changes_with_the_bytes(app: Context, place: Path) -> None:
    marks = ['"one"']
    with web_server(marks) as url:
        stages(place, f"  get: {{cmd: touch out, deps: ['{url}', raw], outs: [out]}}\n")
        assert repro(app, place) == ["get"]
        (fact,) = [one for one in lock(place)["stages"]["get"]["deps"] if "://" in one["path"]]
        assert fact == {"path": url, "hash": "md5", "checksum": '"one"', "size": 7}
        assert repro(app, place) == []
        marks[0] = '"two"'
        (state,) = pipelines.states(app, read_pipeline(place))
        assert state.why == (f"dependency {url} changed",)
        assert repro(app, place) == ["get"]
        marks[0] = ""
        with pytest.raises(RepositoryUnfit, match="its server names no ETag"):
            repro(app, place)
        marks.clear()
        with pytest.raises(RepositoryUnfit, match="is a dependency, and is not there"):
            repro(app, place)
    with pytest.raises(RemoteUnavailable, match="cannot be asked"):
        repro(app, place)


def test_parameters_in_python_are_the_literals_of_a_file_that_is_not_run(app: Context, place: Path) -> None:
    (place / "params.py").write_text(
        "import os\nos.abort()\nrate: float = 0.1\nsizes = (1, (2, 3))\nname, other = 'a', 'b'\nempty: int\n"
        "made = os.getcwd()\nclass Model:\n    depth = 3\n    def __init__(self):\n        self.wide = {'a': [1]}\n"
        "        local = 5\n"
    )
    stages(place, "  a: {cmd: x=1, params: [params.py: ]}\n  b: {cmd: x=1, params: [params.py: [Model.depth, rate]]}\n")
    assert repro(app, place) == ["a", "b"]
    assert lock(place)["stages"]["a"]["params"] == {
        "params.py": {"Model": {"depth": 3, "wide": {"a": [1]}}, "rate": 0.1, "sizes": [1, [2, 3]]}
    }
    assert lock(place)["stages"]["b"]["params"] == {"params.py": {"Model.depth": 3, "rate": 0.1}}
    assert repro(app, place) == []
    (place / "params.py").write_text("rate = 0.2\nclass Model:\n    depth = 3\n")
    assert repro(app, place, "b") == ["b"]


# --- refused at the door -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  a: {cmd: x, deps: [b], outs: [c]}\n  b: {cmd: x, deps: [c], outs: [b]}\n", "in a circle: (a -> b|b -> a)"),
        ("  a: {cmd: x, deps: [c], outs: [c]}\n", "circle: a -> a"),
        ("  a: {cmd: x, outs: [c]}\n  b: {cmd: x, outs: [./c]}\n", "stages a and b have the output ./c"),
        ("  a: {cmd: x, outs: [c]}\n  b: {cmd: x, outs: [c/d]}\n", "stages a and b have outputs one in the other: c/d"),
        ("  a: {cmd: x, outs: [c, c]}\n", "stage a has twice the output c"),
        ("  a: {cmd: x, deps: [gone]}\n", "stage a depends on gone, which is not there"),
        ("  a: {cmd: x, params: [model.gone]}\n", "stage a depends on params.yaml:model.gone, and there is no 'gone'"),
        ("  a: {cmd: x, params: [gone.yaml: [x]]}\n", "stage a depends on gone.yaml, which is not there"),
        ("  a: {cmd: x, params: ['model.*']}\n", "is a pattern"),
        ("  a: {cmd: x, outs: [..]}\n", "no file or directory of its own"),
        ("  a: {cmd: x, outs: [.]}\n", "no file or directory of its own"),
        ("  a: {cmd: x, outs: [/etc]}\n", "no file or directory of its own"),
        ("  a: {cmd: x, outs: [.git/x]}\n", "no file or directory of its own"),
        ("  a: {cmd: x, deps: ['gs://b/k']}\n", r"dvc.yaml, line 3: gs:// is no path on this machine, and none of s3"),
        ("  a: {cmd: x, deps: ['https://u:geheim@h/k']}\n", "line 3: a URL of h names a user or password, which would"),
        ("  a: {cmd: x, deps: ['s3://b']}\n", "dvc.yaml, line 3: 's3://b' names no object"),
        ("  a: {cmd: x, outs: ['s3://b/k']}\n", "s3:// is no path on this machine; only dependencies may be"),
        ("  a: {cmd: 'echo ${item}'}\n", r"dvc.yaml, line 3: there is no value for `\${item}`"),
        ("  a: {cmd: 'echo ${a b.}'}\n", r"dvc.yaml, line 3: `\${a b.}` is no template"),
        ("  a: {foreach: [1]}\n", "dvc.yaml, line 3: stage a needs `foreach` and `do`"),
        ("  a:\n    foreach: 1\n    do: {cmd: x}\n", "dvc.yaml, line 4: `foreach` of stage a is neither"),
        ("  a: {matrix: {b: 1}, cmd: x}\n", "dvc.yaml, line 3: `matrix` of stage a is no mapping of lists"),
        ("  a: {deps: [raw]}\n", "dvc.yaml, line 3: stage a has no command"),
        ("  a:\n    cmd: x\n    outs: raw\n", "dvc.yaml, line 5: `outs` is no list"),
        ("  a: {cmd: x, outs: [c: {cach: false}]}\n", "dvc.yaml, line 3: the output c has `cach`"),
        ("  a: {cmd: x, frozen: 1}\n", "dvc.yaml, line 3: `frozen` of stage a is neither true nor false"),
        ("  a: {cmd: x, params: [p.py: [b]]}\n", "stage a depends on p.py, which is not there"),
        ("  a: {cmd: x, params: [runs.py: [b]]}\n", "runs.py, line 2: this is no Python: "),
        ("  a: [x]\n", "dvc.yaml, line 3: stage a is no mapping"),
        ("  a: {cmd: x\n", "dvc.yaml, line . is not YAML"),
        ("  a@b: {cmd: x}\n", "dvc.yaml, line 3: 'a@b' cannot be the name of a stage"),
        ("  a: {cmd: x}\nvars: [x.yaml]\n", "dvc.yaml, line 4: x.yaml is not there"),
        ("  a: {cmd: x}\nvars: [model: {rate: 1}]\n", "dvc.yaml, line 4: `model.rate` has a value already"),
        ("  a: {cmd: x}\nstage: {}\n", "dvc.yaml, line 4: dvc.yaml has `stage`"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(app: Context, place: Path, text: str, message: str) -> None:
    stages(place, "  first: {cmd: touch first}\n" + text)
    (place / "runs.py").write_text("a = 1\nb = (\n")
    with pytest.raises(RepositoryUnfit, match=message):
        repro(app, place)
    assert not (place / "first").exists()


def test_an_unknown_stage_is_refused_with_those_there_are(app: Context, place: Path) -> None:
    with pytest.raises(UsageError, match="there is no stage cleen") as caught:
        repro(app, place, "cleen")
    assert "clean, count" in caught.value.hint


def test_a_stage_that_would_break_the_pipeline_is_not_added(place: Path, fusepkg: Fusepkg) -> None:
    done = fusepkg("stage", "add", "-n", "more", "-d", "count.txt", "-o", "raw", "--", "true", cwd=place, check=False)
    assert "in a circle" in done.stderr
    assert (place / "dvc.yaml").read_text() == PIPELINE
    with pytest.raises(UsageError):
        add_stage(place, "a b", "true", [], [Out("x")], [], force=False)


def test_dvcignore_leaves_files_out_of_hashes(app: Context, place: Path) -> None:
    (place / ".dvcignore").write_text("# of editors\n*.tmp\n/raw/cache/\n!kept.tmp\n")
    repro(app, place)
    (place / "raw/cache").mkdir()
    for name in ("a.tmp", "cache/x"):
        (place / "raw" / name).touch()
    assert repro(app, place) == []
    (place / "raw/kept.tmp").touch()
    assert repro(app, place) == ["clean"]
    (place / "raw/.dvcignore").touch()
    with pytest.raises(RepositoryUnfit, match=r"raw has a \.dvcignore"):
        repro(app, place)
    (place / "raw/.dvcignore").unlink()
    (place / ".dvcignore").write_text("clean.*\n")
    with pytest.raises(RepositoryUnfit, match=r"stage clean has clean.txt, which is left out by a \.dvcignore"):
        repro(app, place)


@pytest.mark.parametrize("text", ["stages: []\nschema: '2.0'\n", "clean: {}\n", "<<<<<<< HEAD\n", "[]\n"])
def test_a_lock_that_dvc_has_not_written_is_refused(app: Context, place: Path, text: str) -> None:
    (place / "dvc.lock").write_text(text)
    with pytest.raises(FusepkgError, match=r"dvc\.lock"):
        repro(app, place)
    assert (place / "dvc.lock").read_text() == text


def test_other_stages_of_the_lock_and_its_comments_stay(app: Context, place: Path) -> None:
    (place / "dvc.lock").write_text("schema: '2.0'\nstages:\n  old:  # of before\n    cmd: x\n")
    repro(app, place)
    assert "  old:  # of before\n    cmd: x\n" in (place / "dvc.lock").read_text()
    assert list(lock(place)["stages"]) == ["old", "clean", "count"]
