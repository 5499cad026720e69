"""A run that leaves a mount or a daemon behind fails, names it, and it is gone; a clean run passes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.leftovers import mounts_below, runs_fusepkg

ROOT = Path(__file__).parents[2]

LEAVES_A_PROCESS = """
import subprocess, sys
def test_it(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; 'fusepkg'; print('here', flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout.readline() == b"here\\n"
"""

LEAVES_A_MOUNT = """
import pyfuse3
def test_it(tmp_path):
    place = tmp_path / "left behind"
    place.mkdir()
    pyfuse3.init(pyfuse3.Operations(), str(place), set(pyfuse3.default_options))
"""


def run(directory: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of its own over one test, with nothing but the plugin."""
    (directory / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.plugins.leftovers", "-p", "no:cacheprovider"]
    command += [f"--basetemp={directory / 'base temp'}", f"--rootdir={directory}", *options]
    command.append(str(directory / "test_it.py"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_a_clean_run_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_it(): pass")
    assert done.returncode == 0
    assert "LEFT BEHIND" not in done.stdout


def test_a_process_is_named_and_killed(tmp_path: Path) -> None:
    done = run(tmp_path, LEAVES_A_PROCESS)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("process ")]
    assert line.endswith("started by test_it.py::test_it (call)")
    pid = int(line.split()[1])
    assert not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.fuse
def test_a_mount_is_named_and_detached(tmp_path: Path) -> None:
    done = run(tmp_path, LEAVES_A_MOUNT)
    assert done.returncode == 1
    assert f"fuse mount at {tmp_path}/base temp/test_it0/left behind" in done.stdout
    assert mounts_below(tmp_path) == []


def test_a_run_in_several_processes_fails_all_the_same(tmp_path: Path) -> None:
    done = run(tmp_path, LEAVES_A_PROCESS, "-n", "1")
    assert done.returncode == 1, done.stdout
    assert "LEFT BEHIND" in done.stdout
    assert "started by test_it.py::test_it" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "does"),
    [
        ("-c from multiprocessing.resource_tracker import main;main(38)", False),
        ("-m fusepkg mount local/small:v1 m", True),
        ("/home/ada/fusepkg/.venv/bin/fusepkg mount local/small:v1 m", True),
        ("-c import sys; sys.path.append('/home/ada/fusepkg'); from fusepkg.daemon.start import be_spawned", True),
    ],
)
def test_a_checkout_called_fusepkg_does_not_make_every_process_one(arguments: str, does: bool) -> None:
    checkout = Path("/home/ada/fusepkg")
    assert runs_fusepkg(f"{checkout}/.venv/bin/python {arguments}", checkout) is does
