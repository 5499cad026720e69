"""Small objects with and without packs, 20 ms away: whole epochs in listing order and shuffled, and sparse reads.

Both versions name the same objects. A sparse reader reads one file in a hundred; its row is how many of the bytes that
he needs were fetched.
"""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.peers import FAR_MS, PREFIX, SEED, SMALL, Cold, make_bucket, measure_epochs
from bench.readers import run_readers
from bench.results import Sample
from bench.rows import in_order_of_round, usable
from bench.server import start_server, why_no_server
from bench.subjects import fusepkg, rclone
from bench.workload import Tree

if TYPE_CHECKING:
    from contextlib import ExitStack

    from bench.rows import Measure, Run
    from bench.server import Server
    from bench.subjects.subject import Subject

FILES, DIRECTORIES = 4_000, 20
SPARSE = 100
"""A sparse reader reads one in so many files."""

BUCKET = "bench-packs"
PACKED, PLAIN = "packed", "plain"


def packs(run: Run, stack: ExitStack) -> Measure:
    """Epochs with packs, without, and of rclone; sparse reads with packs."""
    if reason := why_no_server():
        run.results.skipped["packs"] = reason
        return lambda _: None
    source = run.scratch / "packs"
    tree = workload.write_tree(source / SMALL, directories=DIRECTORIES, files=run.scaled(FILES))
    server = start_server(run.scratch / "s3-packs", stack, (0, FAR_MS))
    make_bucket(server, BUCKET)
    with run.place() as home:
        environ = fusepkg.environment(home, server.environment(0))
        for name, option in ((PACKED, "--packs"), (PLAIN, "--no-packs")):  # the message makes it another version
            fusepkg.run(environ, "push", option, "--prefix", PREFIX, "-m", name, source, f"{BUCKET}/{name}:bench")
    subjects = _subjects(run, server)
    shuffled = Tree(tuple(Random(SEED).sample(tree.paths, len(tree.paths))), tree.file_bytes)
    rows = [
        Cold(f"packs.list.{FAR_MS}", f"in listing order, {FAR_MS} ms", tree, FAR_MS),
        Cold(f"packs.shuffled.{FAR_MS}", f"shuffled, {FAR_MS} ms", shuffled, FAR_MS),
    ]

    def measure(number: int) -> None:
        for cold in rows:
            for subject in in_order_of_round(subjects, number):
                measure_epochs(run, server, subject, cold, number)
        for engine in fusepkg.ENGINES:
            with run.attempt(f"{engine}, sparse"):
                _sparse(run, server, engine, shuffled, number)

    return measure


def _subjects(run: Run, server: Server) -> list[Subject]:
    settings = server.environment(FAR_MS)
    options = (
        "--s3-provider=SeaweedFS", f"--s3-endpoint={settings['AWS_ENDPOINT_URL_S3']}", "--s3-env-auth",
        "--s3-force-path-style",
    )  # fmt: skip
    ours = [
        replace(fusepkg.fusepkg(engine, f"{BUCKET}/{name}:bench", settings), name=f"{engine} {name}")
        for engine in fusepkg.ENGINES
        for name in (PACKED, PLAIN)
    ]
    return usable(run, [*ours, rclone.rclone("full", f":s3:{BUCKET}/{PREFIX}", settings, *options)])


def _sparse(run: Run, server: Server, engine: str, shuffled: Tree, number: int) -> None:
    """Read one file in a hundred, at random, and ask the mount what it fetched."""
    if fusepkg.why_not(engine):
        return
    tree = Tree(shuffled.paths[: max(1, len(shuffled.paths) // SPARSE)], shuffled.file_bytes)
    run.results.add_row("sparse.bytes", f"one file in {SPARSE}: bytes fetched for each byte read", "bytes")
    run.results.add_row("sparse.gets", f"one file in {SPARSE}: GETs a file", "GETs")
    with run.place() as place:
        environ = fusepkg.environment(place, server.environment(FAR_MS))
        with fusepkg.mounted(engine, f"{BUCKET}/{PACKED}:bench", place / "mount", environ) as opened:
            if not (run.dry or machine.why_no_drop()):
                machine.drop_caches(machine.ALL)
            gets = server.gets(FAR_MS)
            timing = run_readers(workload.read_files(opened.directory / SMALL, tree, 1))
            status = json.loads(fusepkg.run(environ, "status", opened.directory, "--json"))
            fetched = status["counters"]["fetched_bytes"] / (timing.work * tree.file_bytes)
            found = {"sparse.bytes": fetched, "sparse.gets": (server.gets(FAR_MS) - gets) / timing.work}
    for row, value in found.items():
        run.record(Sample(row=row, subject=engine, round=number, value=value, passes=[], load=machine.load()))
