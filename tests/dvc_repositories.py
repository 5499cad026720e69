"""DVC repositories that the real DVC has made, and what it says is in them.

    python -m tests.dvc_repositories DVC OLD_DVC    writes tests/golden/dvc/repositories.tar.gz

DVC is the program of release 3, OLD_DVC that of release 2 (2.58.2 with pathspec below 0.12). All repositories lie side
by side and name each other, and their remotes, by relative paths, so that they can be unpacked anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ARCHIVE = Path(__file__).parent / "golden/dvc/repositories.tar.gz"
EXPECTED = "expected.json"

REVISIONS = {"registry": ("v1", "v2"), "dataset": ("v1",), "third": ("v1",), "old": ("v1",), "several": ("v1",)}

_PIPELINE = """\
stages:
  prepare:
    cmd: python3 prepare.py
    deps:
    - prepare.py
    - raw/01
    outs:
    - prepared/01
    metrics:
    - metrics.json:
        cache: false
  count:
    foreach: [one, two]
    do:
      cmd: echo ${item} > counts/${item}.txt
      outs:
      - counts/${item}.txt
"""

_OLD_PIPELINE = """\
stages:
  copy:
    cmd: cp table.csv copy.csv
    deps: [table.csv]
    outs: [copy.csv]
"""

_PREPARE = """\
import pathlib, shutil
shutil.copytree("raw/01", "prepared/01", dirs_exist_ok=True)
pathlib.Path("metrics.json").write_text("{}")
"""


def run(directory: Path, *command: str | Path) -> str:
    """Run a command in a directory; its output if it fails."""
    who = {f"GIT_{role}_{what}": "ada@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        [str(word) for word in command], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def write(directory: Path, files: dict[str, str]) -> None:
    """Write files below a directory; CRLF stays."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")


def start(root: Path, name: str, dvc: Path, *options: str) -> Path:
    """Make a git and DVC repository with a remote beside it."""
    repository = root / name
    run(root, "git", "init", "-q", "--template=", "-b", "main", name)
    run(repository, dvc, "init", "-q", *options)
    run(repository, dvc, "remote", "add", "-q", "-d", "storage", f"../{name}-storage")
    return repository


def commit(repository: Path, tag: str, dvc: Path) -> None:
    """Commit all, tag it, and push the data."""
    run(repository, "git", "add", "-A")
    run(repository, "git", "commit", "-q", "-m", tag)
    run(repository, "git", "tag", tag)
    run(repository, dvc, "push", "-q")


def make(root: Path, dvc: Path, old_dvc: Path | None = None) -> None:
    """Make the repositories below a directory, and note what each revision holds."""
    registry = start(root, "registry", dvc)
    write(registry, {
        "raw/01/a.jpg": "a", "raw/01/deep/ü b.jpg": "b", "raw/01/no": "no", "raw/01/empty": "",
        "raw/01/crlf.csv": "x\r\ny\r\n", "model.bin": "model", "dvc.yaml": _PIPELINE, "prepare.py": _PREPARE,
    })  # fmt: skip
    (registry / "model.bin").chmod(0o755)
    run(registry, dvc, "add", "-q", "raw/01", "model.bin")
    commit(registry, "v1", dvc)
    write(registry, {"raw/01/a.jpg": "another", "raw/02/z.jpg": "z", "counts/.gitkeep": ""})
    run(registry, dvc, "add", "-q", "raw/01", "raw/02")
    run(registry, dvc, "repro", "-q")
    commit(registry, "v2", dvc)
    dataset = start(root, "dataset", dvc)
    (dataset / "data/inputs").mkdir(parents=True)
    for path, out in (("raw/01", "data/inputs"), ("raw/01/deep", "deep"), ("model.bin", "model.bin")):
        run(dataset, dvc, "import", "-q", "../registry", path, "-o", out, "--rev", "v1")
    commit(dataset, "v1", dvc)
    third = start(root, "third", dvc)
    run(third, dvc, "import", "-q", "../dataset", "data/inputs/01", "-o", "again")
    commit(third, "v1", dvc)
    several = root / "several"
    run(root, "git", "init", "-q", "--template=", "-b", "main", "several")
    for project in ("one", "two"):
        (several / project).mkdir()
        run(several / project, dvc, "init", "-q", "--subdir")
        run(several / project, dvc, "remote", "add", "-q", "-d", "storage", "../../several-storage")
        write(several / project, {"data.txt": project})
        run(several / project, dvc, "add", "-q", "data.txt")
        run(several / project, dvc, "push", "-q")
    run(several, "git", "add", "-A")
    run(several, "git", "commit", "-q", "-m", "v1")
    run(several, "git", "tag", "v1")
    if old_dvc is not None:
        old = start(root, "old", old_dvc)
        write(old, {
            "data/crlf.csv": "x\r\ny\r\n", "data/binary": "\0x\r\ny", "table.csv": "1,2\r\n",
            "dvc.yaml": _OLD_PIPELINE,
        })  # fmt: skip
        run(old, old_dvc, "add", "-q", "data", "table.csv")
        run(old, old_dvc, "repro", "-q")
        commit(old, "v1", old_dvc)
    expected = {
        f"{name}@{tag}": pulled(root, name, tag, old_dvc if name == "old" and old_dvc else dvc)
        for name, tags in REVISIONS.items()
        for tag in tags
        if (root / name).is_dir()
    }
    (root / EXPECTED).write_text(json.dumps(expected, indent=1, sort_keys=True))
    for cache in root.glob("**/.dvc/cache"):
        shutil.rmtree(cache)


def pulled(root: Path, name: str, tag: str, dvc: Path) -> dict[str, str]:
    """Return what DVC puts into a clone of a revision, beside what git does: contents by path."""
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        clone = root / f"{name}-clone"  # beside the others, for its relative remotes
        run(root, "git", "clone", "-q", "-b", tag, name, clone.name)
        try:
            for project in [clone / "one", clone / "two"] if name == "several" else [clone]:
                run(project, dvc, "pull", "-q", "--allow-missing")
            tracked = set(run(clone, "git", "ls-files", "-z").split("\0"))
            files = {str(path.relative_to(clone)): path for path in clone.rglob("*") if path.is_file()}
            return {
                key: path.read_bytes().decode("latin-1")
                for key, path in files.items()
                if key not in tracked and not key.startswith(".git/") and "/.dvc/" not in f"/{key}"
            }
        finally:
            clone.rename(Path(scratch, "clone"))


def unpack(root: Path) -> dict[str, dict[str, str]]:
    """Unpack the repositories below a directory; return what each revision holds."""
    # tar(1), because Debian 12's Python has no filters for archives yet, and newer ones warn without.
    subprocess.run(["tar", "--no-same-owner", "-xzf", ARCHIVE, "-C", root], check=True)
    for git in root.glob("*/.git"):
        (git / "refs/heads").mkdir(parents=True, exist_ok=True)  # git knows a repository by it
    return json.loads((root / EXPECTED).read_text())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        make(Path(directory), *(Path(program).absolute() for program in sys.argv[1:3]))
        with tarfile.open(ARCHIVE, "w:gz") as written:
            for path in sorted(Path(directory).rglob("*")):
                if "/.dvc/tmp" not in str(path):
                    written.add(path, str(path.relative_to(directory)), recursive=False)
