"""Tasks across processes: a worker that is killed, one that is cancelled, a datapool that runs elsewhere."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusepkg.datasets import Dataset, DatasetClient
from fusepkg.errors import TaskError
from fusepkg.model.reference import parse_bucket
from fusepkg.opened.contexts import current_context
from fusepkg.store.protocol import ObjectStore
from fusepkg.tasks.lease import claim
from fusepkg.tasks.task import Event, Status, add_record, list_tasks, make_record, read_task, submit
from tests.command import Fusepkg
from tests.rgw import Gateway
from tests.samples.media import picture, video


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset(DatasetClient("local").create_dataset("Films").dataset_hash)
    made.upload_video(video(tmp_path / "film.mp4"))
    return made


@pytest.fixture
def store() -> ObjectStore:
    return current_context().store(parse_bucket("local"))


@pytest.fixture
def stuck(tmp_path: Path) -> Path:
    """A directory with an ffmpeg that never ends, and writes its number to the file ``pid`` there."""
    directory = tmp_path / "stuck"
    directory.mkdir()
    program = directory / "ffmpeg"
    program.write_text(f"#!/bin/sh\necho $$ > {directory}/new && mv {directory}/new {directory}/pid\nexec sleep 1000\n")
    program.chmod(0o755)
    return directory


def wait_for(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.02)


def is_gone(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def start_worker(stuck: Path, lease_s: float, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "fusepkg", "tasks", "run", "local", "1", "--lease", str(lease_s), *more]
    path = f"{stuck}:{os.environ['PATH']}"
    worker = subprocess.Popen(
        words, env=os.environ | {"PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for((stuck / "pid").exists)
    return worker


def test_a_killed_workers_task_is_taken_over(
    dataset: Dataset, store: ObjectStore, stuck: Path, fusepkg: Fusepkg
) -> None:
    (row,) = dataset.data_rows
    assert dataset.re_encode_data([row.uid], start=False) == 1
    worker = start_worker(stuck, 1)
    assert read_task(store, 1).status is Status.RUNNING
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    encoder = int((stuck / "pid").read_text())
    wait_for(lambda: is_gone(encoder))  # it dies with its worker

    done = fusepkg("tasks", "run", "local", "1")
    assert done.stdout == "Task 1: DONE\n"
    assert "it is taken over after 1 s of silence" in done.stderr
    task = read_task(store, 1)
    assert (task.status, task.attempt) == (Status.DONE, 2)
    again = dataset.get_data_row(row.uid)
    assert (again.meta["re_encoded_by"], again.meta["codec"], again.frames) == (1, "h264", row.frames)


def test_a_cancelled_worker_stops(dataset: Dataset, store: ObjectStore, stuck: Path, fusepkg: Fusepkg) -> None:
    (row,) = dataset.data_rows
    dataset.re_encode_data([row.uid], start=False)
    worker = start_worker(stuck, 1)
    assert fusepkg("tasks", "cancel", "local", "1").stdout == "Task 1: CANCELLED\n"
    said = worker.communicate()
    assert worker.returncode == TaskError.exit_code, said
    assert is_gone(int((stuck / "pid").read_text()))
    assert dataset.re_encode_data_status(1).status == "ERROR"
    assert "re_encoded_by" not in dataset.get_data_row(row.uid).meta


def test_a_task_asks_for_nothing_beyond_its_bucket(
    dataset: Dataset, store: ObjectStore, tmp_path: Path, fusepkg: Fusepkg
) -> None:
    (row,) = dataset.data_rows
    (tmp_path / "bucket").mkdir()
    elsewhere = current_context().store(parse_bucket(f"file://{tmp_path}/bucket"))
    submit(elsewhere, "re-encode", {"videos": [row.uid]}, about=dataset.reference)
    selection = {"n_samples": 1}
    pool = {"source": "local/films", "target": f"file://{tmp_path}/bucket/grown", "selection": selection}
    submit(elsewhere, "pool-run", pool)
    submit(elsewhere, "pool-run", pool | {"source": f"file://{tmp_path}/bucket/x", "embedder": "os:system"})
    submit(elsewhere, "pool-run", {"target": 3})
    copies = {"source": dataset.reference, "out": f"file://{tmp_path}/bucket/x", "command": ["cp", "{in}", "{out}"]}
    submit(elsewhere, "transform", copies)
    submit(elsewhere, "transform", copies | {"by": "all"})
    submit(elsewhere, "transform", copies | {"command": ["rm", "{in}", "{out}"]})
    fusepkg("tasks", "run", f"file://{tmp_path}/bucket", "--command", "cp '{in}' '{out}'")
    reasons = [read_task(elsewhere, number).reason for number in (1, 2, 3, 4, 5, 6)]
    assert "local/films:latest lies in another bucket than task 1" in reasons[0]
    assert "local/films lies in another bucket than task 2" in reasons[1]
    assert "a task has the embedder histogram" in reasons[2]
    assert "it is no run of a datapool" in reasons[3]
    assert "local/films:latest lies in another bucket than task 5" in reasons[4]
    assert "it is no transform" in reasons[5]
    assert read_task(elsewhere, 7).status is Status.SUBMITTED  # nobody told this worker to run that


def test_a_datapool_runs_as_a_task(store: ObjectStore, tmp_path: Path, fusepkg: Fusepkg) -> None:
    for number, colour in enumerate(("red", "green", "blue")):
        picture(tmp_path / "street" / f"{number}.png", colour=colour)
    fusepkg("push", tmp_path / "street", "local/street")
    file = tmp_path / "pool.toml"
    file.write_text('source = "local/street"\ntarget = "local/chosen"\n[selection]\nn_samples = 2\n')
    assert fusepkg("pool", "submit", file, "--no-start").stdout == "1\n"
    assert add_record(store, 1, 2, make_record(Event.CLAIMED, attempt=1, lease_s=0.5))  # a worker that dies at once
    fusepkg("tasks", "run", "local")
    task = read_task(store, 1)
    assert (task.status, task.attempt) == (Status.DONE, 2), task.reason
    assert (task.result["chosen"], task.result["total"]) == (2, 2)
    assert len(fusepkg("ls", "local/chosen").stdout.splitlines()) >= 2
    file.write_text(f'source = "{tmp_path}/street"\ntarget = "local/chosen"\n[selection]\nn_samples = 2\n')
    refused = fusepkg("pool", "submit", file, check=False)
    assert refused.returncode == 2
    assert "is a folder of one machine" in refused.stderr


def test_a_killed_transform_is_taken_over(store: ObjectStore, tmp_path: Path, fusepkg: Fusepkg) -> None:
    """Its command is run by workers that were told it; what the killed one has done is not done again."""
    (folder := tmp_path / "in").mkdir()
    for number in range(40):
        (folder / f"{number:02}.txt").write_text(f"{number}\n")
    fusepkg("push", folder, "local/in:v1")
    script = tmp_path / "twice.sh"
    blocks = (
        f"[ -e {tmp_path}/go ] || {{ echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 1000; }}"
    )
    script.write_text(f'case $1 in */20.txt) {blocks};; esac\ncat "$1" "$1" > "$2"\n')
    words = ["sh", str(script), "{in}", "{out}"]
    asked = ["transform", "local/in:v1", "--to", "local/out:v1", "-m", "twice"]
    assert fusepkg(*asked, "--no-start", "--", *words).stdout == "1\n"
    told = f"--command={shlex.join(words)}"
    assert fusepkg("tasks", "run", "local").stderr == "0 tasks done\n"
    refused = fusepkg("tasks", "run", "local", "1", check=False)
    assert (refused.returncode, f"add: --command {shlex.quote(shlex.join(words))}" in refused.stderr) == (2, True)

    worker = start_worker(tmp_path, 1, told)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    (tmp_path / "go").touch()
    done = fusepkg("tasks", "run", "local", "1", told)
    assert (done.stdout, "it is taken over after 1 s of silence" in done.stderr) == ("Task 1: DONE\n", True)
    task = read_task(store, 1)
    assert (task.attempt, task.result["entries"], task.result["failed"]) == (2, 40, 0)
    assert 0 < task.result["reused"] < 40 == task.result["reused"] + task.result["done"]
    fusepkg(*asked[:3], "local/undisturbed:v1", "-m", "twice", "--", *words)
    assert fusepkg("hash", "local/undisturbed:v1").stdout == fusepkg("hash", "local/out:v1").stdout


@pytest.mark.s3
@pytest.mark.parametrize("versioned", [False, True])
def test_one_of_many_workers_gets_a_task(s3: Gateway, versioned: bool) -> None:
    """Also where the server lets several creators succeed."""
    store = current_context().store(parse_bucket(s3.bucket(versioned=versioned)))
    with ThreadPoolExecutor(6) as threads:
        tasks = list(threads.map(lambda number: submit(store, "echo", {"say": number}), range(6)))
        assert sorted(task.number for task in tasks) == [1, 2, 3, 4, 5, 6]
        assert sorted(task.parameters["say"] for task in list_tasks(store)) == [0, 1, 2, 3, 4, 5]
        leases = [lease for lease in threads.map(lambda _: claim(store, tasks[0]), range(6)) if lease is not None]
    assert len(leases) == 1
    leases[0].end(Event.DONE, result=1)
    assert read_task(store, tasks[0].number).result == 1
