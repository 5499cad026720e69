"""What a `dvc.yaml` may hold is read as DVC reads it; its run cache is filled and used; outputs become versions.

`golden/dvc/pipeline` is what the real DVC 3 has run: `tests/heavy/test_dvc.py` compares it with the DVC of today.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fusepkg.app.context import Context
from fusepkg.app.settings import Flags, decide
from fusepkg.dvc.files import parse_yaml
from fusepkg.errors import FusepkgError, RepositoryUnfit, UsageError
from fusepkg.pipeline import run as pipelines
from fusepkg.pipeline.repository import read_pipeline
from tests.command import Fusepkg

GOLDEN = Path(__file__).parents[2] / "golden/dvc/pipeline"

ALWAYS = {"always", "callback"}
"""Stages that always run."""

FORGOTTEN = {"literal@1", "literal@true", "literal@x", "by_name@uk", "by_name@us", "measure"}
"""Those without dependencies, or with outputs that DVC does not cache: no run cache remembers them."""


@pytest.fixture
def app(home: Path) -> Context:
    return Context(decide(Flags()))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of DVC with the pipelines of the golden one, of which none has run."""
    made = tmp_path / "place"
    shutil.copytree(GOLDEN, made, ignore=shutil.ignore_patterns("dvc.lock", "runs.txt"))
    (made / ".dvc").mkdir()
    (made / ".dvc/config").touch()
    (made / "raw/editor.tmp").touch()
    monkeypatch.chdir(made)
    monkeypatch.setenv("SHELL", "/bin/sh")
    return made


def repro(app: Context, place: Path, *names: str, **options: Any) -> tuple[set[str], set[str]]:
    """Run it; return the stages that ran, and those that the run cache gave."""
    done = pipelines.repro(app, read_pipeline(place), names, **options)
    return {one.name for one in done if one.has_run}, {one.name for one in done if one.entry and not one.has_run}


def lock(directory: Path) -> Any:
    return parse_yaml((directory / "dvc.lock").read_bytes(), "dvc.lock", "safe")


def test_all_that_a_dvc_yaml_may_hold_is_read_and_noted_as_dvc_does(app: Context, place: Path) -> None:
    ran, _ = repro(app, place, everywhere=True, jobs=4)
    assert len(ran) == 20
    assert "frozen" not in ran
    assert lock(place) == lock(GOLDEN)
    assert (place / "sub/deep/dvc.lock").read_bytes() == (GOLDEN / "sub/deep/dvc.lock").read_bytes()
    long_line = "${DVC_STAGE} 7 > made/values\n"
    assert long_line in (GOLDEN / "dvc.lock").read_text()
    assert long_line in (place / "dvc.lock").read_text()
    assert (place / "made/values").read_text() == "1e-05 None true prepare 7\n"
    runs = place / ".dvc/cache/runs"
    kept = sorted(str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file())
    assert kept == (GOLDEN / "runs.txt").read_text().split()

    # nothing changed
    assert repro(app, place, everywhere=True) == (ALWAYS, set())

    # all results are lost, and come back from the run cache
    shutil.rmtree(place / "made")
    for path in [*place.glob("*.txt"), place / "sub/deep/far.txt", place / "dvc.lock"]:
        path.unlink()
    ran, restored = repro(app, place, "measure", "grid", "sub/deep/dvc.yaml:far")
    assert ran == {"measure", "by_name@us"}
    assert restored == {"prepare", "each@one", "sub/deep/dvc.yaml:far"} | {
        f"grid@{a}-{b}" for a in (True, False) for b in ("b0", "2", "true")
    }
    assert (place / "made/values").read_text() == "1e-05 None true prepare 7\n"
    known = lock(GOLDEN)["stages"]
    assert all(entry == known[name] for name, entry in lock(place)["stages"].items() if name != "measure")
    ran, _ = repro(app, place, "prepare", "each@two", use_run_cache=False)
    assert ran == {"each@two"}
    shutil.rmtree(place / "made")
    assert repro(app, place, "prepare", use_run_cache=False) == (set(), {"prepare"}), "dvc.lock knows what it was"
    assert repro(app, place, "prepare", force=True) == ({"prepare"}, set())


def test_what_dvc_has_run_is_up_to_date(app: Context, place: Path) -> None:
    repro(app, place, everywhere=True, jobs=4)
    for name in ("dvc.lock", "sub/deep/dvc.lock"):
        shutil.copy(GOLDEN / name, place / name)
    states = list(pipelines.states(app, read_pipeline(place), everywhere=True))
    assert {state.name for state in states if state.why} == ALWAYS
    assert [state.name for state in states if state.is_frozen] == ["frozen"]


def test_stages_are_named_from_where_one_is(app: Context, place: Path, fusepkg: Fusepkg) -> None:
    deep = place / "sub/deep"
    needed = json.loads(fusepkg("dag", "--json", cwd=deep).stdout)
    top = "../../dvc.yaml:"
    assert needed == [
        {"stage": f"{top}by_name@us", "needs": []},
        {"stage": f"{top}prepare", "needs": []},
        {"stage": "far", "needs": [f"{top}by_name@us", f"{top}prepare"]},
    ]
    ran, _ = repro(app, deep)
    assert ran == {one["stage"] for one in needed}
    for name in ("far", ":far", "dvc.yaml:far", "./dvc.yaml", "far.txt"):
        assert read_pipeline(deep).in_order([name])[-1] == "far"
    assert set(read_pipeline(place).in_order(["sub/deep/dvc.yaml", "each"])) == {
        "sub/deep/dvc.yaml:far", "prepare", "by_name@us", "each@one", "each@two", "each@True",
    }  # fmt: skip
    with pytest.raises(RepositoryUnfit, match=r"sub has no dvc\.yaml"):
        repro(app, place / "sub")
    with pytest.raises(UsageError, match=r"there is no stage sub/dvc\.yaml:far"):
        repro(app, place, "sub/dvc.yaml:far")


def test_repositories_within_and_ignored_directories_have_pipelines_of_their_own(app: Context, place: Path) -> None:
    for name in ("other", "ignored"):
        (place / name).mkdir()
        (place / name / "dvc.yaml").write_text("stages: {a: {cmd: x, outs: [../made]}}\n")
    with pytest.raises(RepositoryUnfit, match=r"stages .* have the output"):
        read_pipeline(place)
    (place / "other/.dvc").mkdir()
    (place / "other/.dvc/config").touch()
    (place / ".dvcignore").write_text("/ignored\n")
    assert not [name for name in read_pipeline(place).stages if name.endswith(":a")]


# --- the run cache -------------------------------------------------------------------------------------------

ONE = "stages:\n  a: {cmd: 'cp -r raw out; echo >> runs', deps: [raw], outs: [out]}\n"


@pytest.fixture
def one(place: Path) -> Path:
    """A repository with one stage, `a`, which copies a directory."""
    (place / "dvc.yaml").write_text(ONE)
    shutil.rmtree(place / "sub")
    return place


def test_results_of_before_come_back_with_their_inputs(app: Context, one: Path) -> None:
    for text, ran in (("first", True), ("second", True), ("first", False), ("second", False)):
        (one / "raw/a").write_text(text)
        assert repro(app, one) == (({"a"}, set()) if ran else (set(), {"a"}))
        assert (one / "out/a").read_text() == text
        assert (one / "out/a").stat().st_mode & 0o200, "a copy that can be changed"
    assert (one / "runs").read_text() == "\n\n"


@pytest.mark.parametrize("spoil", ["file", "list", "missing", "entry", "path"])
def test_what_is_damaged_in_the_cache_is_made_again(app: Context, one: Path, tmp_path: Path, spoil: str) -> None:
    repro(app, one)
    cache = one / ".dvc/cache"
    entry = next(path for path in (cache / "runs").rglob("*") if path.is_file())
    md5 = lock(one)["stages"]["a"]["outs"][0]["md5"]
    target = cache / "files/md5" / md5[:2] / md5[2:]
    if spoil == "file":
        target = next(path for path in cache.rglob("*") if path.is_file() and path.read_text() == "a\n")
    target.chmod(0o644)
    if spoil == "missing":
        target.unlink()
    elif spoil == "entry":
        entry.write_text("cmd: [")
    elif spoil == "path":
        entry.write_text(entry.read_text().replace(md5, f"../../../{md5}"))
    else:
        target.write_text('[{"md5": "' + "0" * 32 + '", "relpath": "../x"}]')
    (one / "dvc.lock").unlink()
    shutil.rmtree(one / "out")
    assert repro(app, one) == ({"a"}, set())
    assert (one / "out/a").read_text() == "a\n"
    assert not [path for path in one.iterdir() if path.name.startswith(".fusepkg-")]


def test_tracked_outputs_become_versions_and_come_back_from_them(app: Context, one: Path, fusepkg: Fusepkg) -> None:
    shutil.rmtree(one / ".dvc")
    (one / "dvc.yaml").write_text(ONE.replace("outs: [out]", "outs: [out: {cache: false}]"))
    subprocess.run(["git", "init", "-q", "--template="], cwd=one, check=True)
    fusepkg("init", "--git", cwd=one)
    assert repro(app, one) == ({"a"}, set())
    assert not (one / ".git/fusepkg/cache").exists(), "nothing is kept of outputs that are not tracked"
    fusepkg("track", "out", cwd=one)
    pointers = []
    for text, ran in (("first", True), ("second", True), ("first", False)):
        (one / "raw/a").write_text(text)
        assert repro(app, one) == (({"a"}, set()) if ran else (set(), {"a"}))
        assert (one / "out/a").read_text() == text
        pointers.append((one / "out.fusepkg").read_text())
        assert fusepkg("status", cwd=one).stdout.startswith("out (")
    assert pointers[0] == pointers[2] != pointers[1]
    assert not (one / ".git/fusepkg/cache/files").exists(), "versions are not kept twice"


def test_without_dvc_results_are_kept_in_gits_directory(app: Context, one: Path) -> None:
    shutil.rmtree(one / ".dvc")
    subprocess.run(["git", "init", "-q", "--template="], cwd=one, check=True)
    repro(app, one)
    assert (one / ".gitignore").read_text() == "/out\n"
    shutil.rmtree(one / "out")
    assert repro(app, one) == (set(), {"a"})
    assert (one / ".git/fusepkg/cache/runs").is_dir()


# --- templates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  a: {matrix: {x: " + str(list(range(400))) + ", y: '${xs}'}, cmd: x}\n", "more than 100,000 stages"),
        ("  a: {cmd: x, deps: ['${xs}']}\n", r"line 4: `\$\{xs\}` is a list, which cannot stand in `deps`"),
        ("  a: {foreach: [1], do: {cmd: x, vars: [item: 2]}}\n", "line 4: `item` stands for what"),
        ("  a: {cmd: x, vars: ['${xs}']}\n", "line 4: `vars` cannot have templates"),
        ("  a: {cmd: x, vars: [1]}\n", "line 4: '1' is neither a file nor values"),
        ("  a: {cmd: x, vars: ['more.json:gone']}\n", "line 4: more.json has no 'gone'"),
        ("  a: {cmd: x, vars: [more.json, more.json:extra]}\n", "line 4: more.json:extra is loaded already"),
        ("  a: {cmd: x, vars: [dvc.yaml:x, broken.json]}\n", "dvc.yaml has no 'x'"),
        ("  a: {cmd: x, vars: [broken.json]}\n", "broken.json cannot be read"),
        ("  a: {foreach: '${more}', do: {cmd: x}}\n", r"there is no value for `\$\{more\}`"),
        ("  a: {cmd: '${nested}'}\n", "stage a has no command"),
        ("  a: {cmd: 'x ${nested}'}\n", "the list a has lists in it"),
    ],
)
def test_templates_that_cannot_be_filled_in_are_refused_with_their_line(one: Path, text: str, message: str) -> None:
    (one / "broken.json").write_text("{")
    values = f"vars:\n- {{xs: {list(range(400))}, nested: {{a: [[1]]}}}}\n"
    (one / "dvc.yaml").write_text(values + "stages:\n" + text)
    with pytest.raises(FusepkgError, match=message):
        read_pipeline(one)


def test_arguments_of_a_mapping_follow_dvcs_configuration(place: Path) -> None:
    (place / ".dvc/config").write_text("[parsing]\n    bool = boolean_optional\n    list = append\n")
    assert read_pipeline(place).stages["flags"].command == (
        "echo --on --no-off --name 'a b' --sizes 1 --sizes 2 > flags.txt"
    )
