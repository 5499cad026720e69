"""The real DVC makes repositories and runs pipelines: fusepkg reads the same of them, and believes the same."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from fusepkg import Package
from tests.command import Fusepkg
from tests.dvc_repositories import EXPECTED, make, run, unpack, write
from tests.rgw import Gateway

GOLDEN = Path(__file__).parents[1] / "golden/dvc/pipeline"

DVC = shutil.which("dvc", path=str(Path(sys.executable).parent)) or shutil.which("dvc")
pytestmark = pytest.mark.skipif(DVC is None, reason="DVC is not in this environment: make test-heavy")


def test_repositories_of_today_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    assert DVC is not None
    made, kept = tmp_path / "made", tmp_path / "kept"
    made.mkdir()
    kept.mkdir()
    make(made, Path(DVC))
    expected = json.loads((made / EXPECTED).read_text())
    golden = unpack(kept)
    assert expected == {what: files for what, files in golden.items() if not what.startswith("old@")}
    for what, files in expected.items():
        if not what.startswith("several@"):
            package = Package(f"dvc+{made}/{what}")
            assert {str(entry): package.get(str(entry)).decode("latin-1") for entry in package} == files


OUTPUTS = {"cleaned", "count.txt", "far.txt", "last.txt"}

PIPELINE = """\
# made by hand
stages:
  clean:
    cmd: cp -r raw cleaned && echo 1 > log.txt && chmod +x log.txt
    deps: [raw, raw/a, tool.sh]
    params: [model.rate, model.sizes, model.none, top.toml: , more.json: [deep.on]]
    outs:
    - cleaned
    metrics:
    - log.txt:
        cache: false
  count:
    cmd:
    - ls cleaned | wc -l > count.txt
    - |
      cat cleaned/a >> count.txt
      true
    deps: [cleaned]
    outs: [count.txt]
"""


@pytest.fixture
def pipeline(tmp_path: Path, fusepkg: Fusepkg) -> Path:
    """A repository with a pipeline over data that fusepkg tracks."""
    assert DVC is not None
    made = tmp_path / "pipeline"
    run(tmp_path, "git", "init", "-q", "--template=", "-b", "main", made.name)
    run(made, DVC, "init", "-q")
    write(made, {
        "raw/a": "a", "raw/deep/\u00fc b": "b", "raw/empty": "", "raw/crlf": "x\r\n", "tool.sh": "true\n",
        "params.yaml": "model: {rate: 1e-5, sizes: [1, 2], none: null}\n", "top.toml": "z = 1\na = 'x'\n",
        "more.json": '{"deep": {"on": true}}', "dvc.yaml": PIPELINE,
    })  # fmt: skip
    (made / "tool.sh").chmod(0o755)
    (made / "raw/link").symlink_to("a")
    fusepkg("stage", "add", "-n", "last", "-d", "count.txt", "-o", "last.txt", "--", "cp count.txt last.txt", cwd=made)
    return made


def test_a_pipeline_that_fusepkg_has_run_is_up_to_date_for_dvc(pipeline: Path, fusepkg: Fusepkg) -> None:
    assert DVC is not None
    fusepkg("repro", "-j", "2", cwd=pipeline)
    assert json.loads(run(pipeline, DVC, "status", "--json")) == {}
    before = (pipeline / "dvc.lock").read_bytes()
    assert run(pipeline, DVC, "repro").count("didn't change, skipping") == 3
    shutil.rmtree(pipeline / "cleaned")
    run(pipeline, DVC, "checkout", "-q")
    assert (pipeline / "cleaned/a").read_text() == "a"
    (pipeline / "dvc.lock").unlink()
    shutil.rmtree(pipeline / ".dvc/cache")
    run(pipeline, DVC, "repro", "-q")
    assert (pipeline / "dvc.lock").read_bytes() == before, "both write the same lock"


def test_a_pipeline_that_dvc_has_run_is_up_to_date_for_fusepkg(pipeline: Path, fusepkg: Fusepkg) -> None:
    assert DVC is not None
    run(pipeline, DVC, "repro", "-q")
    before = (pipeline / "dvc.lock").read_bytes()
    assert "0 stages run" in fusepkg("repro", cwd=pipeline).stderr
    assert (pipeline / "dvc.lock").read_bytes() == before
    (pipeline / "raw/a").write_text("another")
    (pipeline / "params.yaml").write_text("model: {rate: 0.5, sizes: [1, 2], none: null}\n")
    changed = json.loads(run(pipeline, DVC, "status", "--json"))
    assert list(changed) == ["clean"]
    assert fusepkg("stage", "status", cwd=pipeline, check=False).stdout.splitlines() == [
        "clean: dependency raw changed, dependency raw/a changed, parameter params.yaml:model.rate changed",
        "count: up to date",
        "last: up to date",
    ]
    run(pipeline, DVC, "repro", "-q")
    assert fusepkg("stage", "status", cwd=pipeline).returncode == 0


def test_pipelines_over_data_that_fusepkg_tracks_agree(pipeline: Path, fusepkg: Fusepkg) -> None:
    assert DVC is not None
    (pipeline / "raw/link").unlink()
    fusepkg("init", "--git", cwd=pipeline)
    fusepkg("track", "raw", cwd=pipeline)
    for text in ("first", "second"):
        (pipeline / "raw/a").write_text(text)
        fusepkg("track", "raw", cwd=pipeline)
        assert "3 stages run" in fusepkg("repro", cwd=pipeline).stderr
        assert "0 stages run" in fusepkg("repro", cwd=pipeline).stderr
        assert json.loads(run(pipeline, DVC, "status", "--json")) == {}


# --- a remote in S3 ------------------------------------------------------------------------------------------


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.s3
@pytest.mark.fuse
def test_a_repository_whose_remote_is_in_s3_mounts_equal_and_its_pipelines_agree(
    pipeline: Path, s3: Gateway, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    assert DVC is not None
    bucket, mounted, clone = s3.bucket(), tmp_path / "mounted", tmp_path / "clone"
    mounted.mkdir()
    s3.s3.put_object(Bucket=bucket, Key="away/table.csv", Body=b"1,2\n")
    with (pipeline / "dvc.yaml").open("a") as file:
        file.write(f"  far: {{cmd: 'echo >> far.txt', deps: ['s3://{bucket}/away/table.csv'], outs: [far.txt]}}\n")
    run(pipeline, DVC, "remote", "add", "-d", "away", f"s3://{bucket}/dvc")
    run(pipeline, DVC, "remote", "modify", "away", "endpointurl", s3.endpoint)
    run(pipeline, DVC, "repro", "-q")
    run(pipeline, DVC, "push", "-q")
    run(pipeline, "git", "add", "-A")
    run(pipeline, "git", "commit", "-qm", "S3")
    assert fusepkg("stage", "status", cwd=pipeline).returncode == 0

    run(tmp_path, "git", "clone", "-q", pipeline, clone)
    run(clone, DVC, "pull", "-q")
    theirs = {name: data for name, data in files_below(clone).items() if name.partition("/")[0] in OUTPUTS}
    fusepkg("mount", f"dvc+{pipeline}", mounted)
    try:
        ours = {name: data for name, data in files_below(mounted).items() if name.partition("/")[0] in OUTPUTS}
    finally:
        fusepkg("umount", mounted)
    assert ours == theirs
    assert {name.partition("/")[0] for name in ours} == OUTPUTS

    s3.s3.put_object(Bucket=bucket, Key="away/table.csv", Body=b"3,4\n")
    assert list(json.loads(run(pipeline, DVC, "status", "--json"))) == ["far"]
    said = fusepkg("repro", cwd=pipeline)
    assert "1 stage run" in said.stderr
    assert json.loads(run(pipeline, DVC, "status", "--json")) == {}
    noted = (pipeline / "dvc.lock").read_text()
    (pipeline / "dvc.lock").unlink()
    run(pipeline, DVC, "repro", "-q")
    assert (pipeline / "dvc.lock").read_text() == noted, "both write the same of an object elsewhere"


# --- all that a dvc.yaml may hold, and the run cache ---------------------------------------------------------


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A repository of DVC with the golden pipelines, of which none has run."""
    assert DVC is not None
    made = tmp_path / "golden"
    shutil.copytree(GOLDEN, made, ignore=shutil.ignore_patterns("dvc.lock", "runs.txt"))
    run(made, "git", "init", "-q", "--template=", "-b", "main")
    ignored = (made / ".dvcignore").read_text()
    (made / ".dvcignore").unlink()
    run(made, DVC, "init", "-q")
    (made / ".dvcignore").write_text(ignored)
    return made


def test_the_golden_pipelines_are_what_dvc_makes_of_them_today(golden: Path, fusepkg: Fusepkg) -> None:
    assert DVC is not None
    run(golden, DVC, "repro", "-q", "-P")
    for name in ("dvc.lock", "sub/deep/dvc.lock"):
        assert (golden / name).read_text() == (GOLDEN / name).read_text()
    runs = golden / ".dvc/cache/runs"
    kept = sorted(str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file())
    assert kept == (GOLDEN / "runs.txt").read_text().split()
    told = fusepkg("stage", "status", "-P", "--json", cwd=golden, check=False).stdout
    assert {one["stage"] for one in json.loads(told) if one["why"]} == {"always", "callback"}


def test_golden_pipelines_that_fusepkg_has_run_are_up_to_date_for_dvc(golden: Path, fusepkg: Fusepkg) -> None:
    assert DVC is not None
    (golden / "raw/editor.tmp").touch()
    fusepkg("repro", "-P", "-j", "2", cwd=golden)
    assert set(json.loads(run(golden, DVC, "status", "--json"))) == {"always", "callback"}
    assert run(golden, DVC, "repro", "-P").count("Running stage") == 2


@pytest.mark.parametrize("first", ["dvc", "fusepkg"])
def test_each_takes_results_from_the_run_cache_that_the_other_filled(
    golden: Path, fusepkg: Fusepkg, first: str
) -> None:
    assert DVC is not None
    shutil.rmtree(golden / "sub")
    pipeline = "stages:\n  a: {cmd: 'cp -r raw out; echo >> runs', deps: [raw], outs: [out]}\n"
    (golden / "dvc.yaml").write_text(pipeline)
    made = []
    for text in ("first", "second"):
        (golden / "raw/a").write_text(text)
        if first == "dvc":
            run(golden, DVC, "repro", "-q")
        else:
            fusepkg("repro", cwd=golden)
        made.append((golden / "dvc.lock").read_text())
    (golden / "raw/a").write_text("first")
    said = fusepkg("repro", cwd=golden).stdout if first == "dvc" else run(golden, DVC, "repro")
    assert ("is taken from the run cache" if first == "dvc" else "is cached - skipping run") in said
    assert (golden / "out/a").read_text() == "first"
    assert (golden / "runs").read_text() == "\n\n"
    assert (golden / "dvc.lock").read_text() == made[0]
    assert json.loads(run(golden, DVC, "status", "--json")) == {}
    assert fusepkg("stage", "status", cwd=golden).returncode == 0
