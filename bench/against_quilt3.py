"""Packages with fusepkg and with quilt3: opening a large one, publishing, publishing again, installing.

Both talk to the same Ceph RADOS Gateway on this machine and read the same million-entry manifest. A publish or an
install is a whole process as a user starts it; an opening is one statement, the imports before it not counted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest

from bench import machine, workload
from bench.failed import SubjectFailed
from bench.processes import run_program, run_statement
from bench.subjects import fusepkg
from fusepkg.model.entry import Entry
from fusepkg.model.logical_key import tree_sort_key
from fusepkg.model.manifest import FORMAT_VERSION, write_entry, write_header
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.model.tophash import TopHash
from tests.machine import why_no_s3
from tests.rgw import Gateway, aws_environment, start_gateway

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack
    from pathlib import Path

    from bench.rows import Measure, Run

ENTRIES = 1_000_000
FILES_PER_DIRECTORY = 100
FILES, DIRECTORIES = 10_000, 100
NAME = "bench/package"
OURS, THEIRS = "fusepkg", "quilt3"


def opening(run: Run, _stack: ExitStack) -> Measure:
    """Open a manifest of a million entries that quilt3's layout holds; the first time on a machine, and again."""
    entries = run.scaled(ENTRIES)
    registry = run.scratch / "quilt3-registry"
    write_registry(registry, entries)
    run.results.add_row("quilt3-open.first", f"open {entries:,} entries, the first time", "s")
    run.results.add_row("quilt3-open.again", f"open {entries:,} entries, again in a new process", "s")
    run.results.add_row("quilt3-open.memory", f"peak memory of the first opening, {entries:,} entries", "MB")

    def measure(number: int) -> None:
        for subject in _in_order(number):
            with run.attempt(f"{subject}, opening"), run.place() as home:
                program = (
                    ("open-fusepkg", f"file://{registry}//{NAME}")
                    if subject == OURS
                    else ("open-quilt3", NAME, f"file://{registry}")
                )
                for row in ("quilt3-open.first", "quilt3-open.again"):
                    load = machine.load()
                    facts = run_statement(environment(home), *program)
                    _expect(facts["entries"], entries, "entries")
                    run.record_value(row, subject, number, facts["seconds"], load)
                    if row == "quilt3-open.first":
                        run.record_value("quilt3-open.memory", subject, number, facts["peak_mb"], load)

    return measure


def publishing(run: Run, stack: ExitStack) -> Measure:
    """Publish a folder, publish it again unchanged, install it: all from an empty bucket and an empty home."""
    if reason := why_no_s3():
        run.results.skipped["quilt3-push"] = reason
        return lambda _: None
    files = run.scaled(FILES)
    source = run.scratch / "published"
    workload.write_tree(source, directories=DIRECTORIES, files=files)
    gateway = start_gateway(run.scratch / "rgw-quilt3", stack)
    for key, what in (("new", "push"), ("again", "push again, unchanged"), ("install", "install")):
        run.results.add_row(f"quilt3-push.{key}", f"{what}, {files:,} files of 10 KB", "s")

    def measure(number: int) -> None:
        for subject in _in_order(number):
            with run.attempt(f"{subject}, publishing"), run.place() as home:
                _publish_and_install(run, gateway, subject, source, home, files, number)

    return measure


def _publish_and_install(
    run: Run, gateway: Gateway, subject: str, source: Path, home: Path, files: int, number: int
) -> None:
    bucket = gateway.bucket()
    settings = aws_environment(gateway.endpoint, gateway.owner)
    installed = home / "installed"
    commands = (
        _our_commands(bucket, source, installed) if subject == OURS else _their_commands(bucket, source, installed)
    )
    for row, command in commands.items():
        environ = environment(home / "other" if row == "quilt3-push.install" else home, settings)
        load = machine.load()
        ended = run_program(command, environ)
        run.record_value(row, subject, number, ended.seconds, load)
        if row == "quilt3-push.again" and subject == OURS:
            _expect(json.loads(ended.output)["uploaded_objects"], 0, "uploads")
    _expect(sum(path.is_file() for path in installed.rglob("*")), files, "files")
    for path in sorted(source.rglob("f*"))[:: max(1, files // 100)]:
        _expect(int((installed / path.relative_to(source)).read_bytes() == path.read_bytes()), 1, f"equal {path.name}")
    shutil.rmtree(installed)


def _our_commands(bucket: str, source: Path, installed: Path) -> dict[str, list[str]]:
    reference = f"{bucket}/{NAME}"
    push = [fusepkg.COMMAND, "push", "--json", str(source), reference]
    return {
        "quilt3-push.new": push,
        "quilt3-push.again": push,
        "quilt3-push.install": [fusepkg.COMMAND, "install", reference, "--location", str(installed)],
    }


def _their_commands(bucket: str, source: Path, installed: Path) -> dict[str, list[str]]:
    program = [sys.executable, "-m", "bench.programs"]
    push = [*program, "push-quilt3", str(source), NAME, f"s3://{bucket}"]
    return {
        "quilt3-push.new": push,
        "quilt3-push.again": push,
        "quilt3-push.install": [*program, "install-quilt3", NAME, f"s3://{bucket}", str(installed)],
    }


def write_registry(root: Path, entries: int) -> None:
    """Put a manifest of that many entries where quilt3 looks for it; its objects are nowhere."""
    header = {"version": FORMAT_VERSION, "message": None}
    top_hash = TopHash(header)
    unnamed = root / ".quilt" / "packages" / "unnamed"
    unnamed.parent.mkdir(parents=True)
    keys = (f"d{number // FILES_PER_DIRECTORY:05}/image_{number:08}.jpg" for number in range(entries))
    with unnamed.open("wb") as file:
        file.write(write_header(header))
        for key in sorted(keys, key=tree_sort_key):
            value = hashlib.sha256(key.encode()).digest()
            physical = PhysicalKey("s3", "a-bucket", f"bench/package/{key}", value.hex()[:32])
            size = 1 + int.from_bytes(value[:4], "big") % 200_000
            entry = Entry(key, physical, size, Digest(Algorithm.SHA2_256_CHUNKED, value))
            top_hash.update(entry)
            file.write(write_entry(entry))
    unnamed.rename(unnamed.with_name(top_hash.hexdigest()))
    pointers = root / ".quilt" / "named_packages" / NAME
    pointers.mkdir(parents=True)
    for name in ("1700000000", "latest"):
        (pointers / name).write_text(top_hash.hexdigest())


def environment(home: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of both: a home of its own; quilt3 neither reports to its makers nor draws bars."""
    home.mkdir(exist_ok=True)
    quiet = {"QUILT_DISABLE_USAGE_METRICS": "true", "QUILT_MINIMIZE_STDOUT": "true"}
    return fusepkg.environment(home, {**quiet, **(settings or {})})


def _in_order(number: int) -> list[str]:
    return [THEIRS, OURS] if number % 2 else [OURS, THEIRS]


def _expect(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise SubjectFailed(f"found {found} {what}, not {wanted}")
