"""What all peers are measured on: one S3 server at several distances, with the same files for each peer.

fusepkg, rclone and s3fs read one object a file, JuiceFS its own blocks. The package is there twice, with packs of its
small files and without; both versions name the same objects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from bench import workload
from bench.failed import SubjectFailed
from bench.rows import usable
from bench.server import start_server, why_no_server
from bench.subjects import fusepkg, juicefs, rclone
from bench.subjects.s3fs import s3fs
from bench.workload import MIB, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rows import Run
    from bench.server import Server
    from bench.subjects.subject import Subject

FILES, DIRECTORIES = 20_000, 100
LARGE_BYTES = 1024 * MIB
CHUNK_BYTES = 8 * MIB
"""What fusepkg verifies of a large object at a time, and so fetches at least."""

FAR_MS = 20
"""The distance of all rows that are measured at one only."""

BUCKET, JUICEFS_BUCKET, PREFIX = "bench-data", "bench-juicefs", "objects"
PACKED, PLAIN = f"{BUCKET}/packed:bench", f"{BUCKET}/plain:bench"
SMALL, LARGE = "small", "big"
SEED = 20


@dataclass(frozen=True, slots=True)
class Remote:
    """The server and what lies on it; ``source`` is the folder that was put there."""

    server: Server
    source: Path
    small: Tree
    shuffled: Tree
    large: Tree
    meta: Path


def remote(run: Run) -> Remote:
    """Return the server of this run, set up by the first group that asks. Raises SubjectFailed."""
    if reason := why_no_server():
        raise SubjectFailed(reason)
    return run.once("remote", partial(_set_up, run))


def _set_up(run: Run) -> Remote:
    source = run.scratch / "remote"
    small = workload.write_tree(source / SMALL, directories=DIRECTORIES, files=run.scaled(FILES))
    large = workload.write_large(source / LARGE, max(run.scaled(LARGE_BYTES), 2 * CHUNK_BYTES))
    server = start_server(run.scratch / "s3", run.stack)
    settings = server.environment(0)
    make_bucket(server, BUCKET)
    make_bucket(server, JUICEFS_BUCKET)
    push_twice(run, server, source)
    meta = run.scratch / "juicefs" / "meta.db"
    meta.parent.mkdir()
    if not juicefs.why_not():
        with run.attempt("juicefs"):
            juicefs.write_file_system(meta, source, f"{server.endpoints[0]}/{JUICEFS_BUCKET}", settings)
    shuffled = Tree(tuple(Random(SEED).sample(small.paths, len(small.paths))), small.file_bytes)
    return Remote(server, source, small, shuffled, large, meta)


def push_twice(run: Run, server: Server, source: Path) -> None:
    """Push a folder with packs and without; the message makes it another version."""
    with run.place() as home:
        environ = fusepkg.environment(home, server.environment(0))
        for reference, option in ((PLAIN, "--no-packs"), (PACKED, "--packs")):
            fusepkg.run(environ, "push", option, "--prefix", PREFIX, "-m", option, source, reference)


def make_bucket(server: Server, bucket: str) -> None:
    """Make an empty bucket."""
    import boto3

    client = boto3.client(
        "s3", endpoint_url=server.endpoints[0], region_name=server.environment(0)["AWS_REGION"],
        aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
    )  # fmt: skip
    client.create_bucket(Bucket=bucket)


def ours(server: Server, delay: int, *, packs: bool = True) -> list[Subject]:
    """Return both engines at a distance: ``erofs`` and ``fuse``; without packs ``erofs plain`` and ``fuse plain``."""
    reference = PACKED if packs else PLAIN
    mounts = [fusepkg.fusepkg(engine, reference, server.environment(delay)) for engine in fusepkg.ENGINES]
    return mounts if packs else [replace(mount, name=f"{mount.name} plain") for mount in mounts]


def peers_at(there: Remote, delay: int) -> list[Subject]:
    """Return the peers at a distance."""
    settings, endpoint = there.server.environment(delay), there.server.endpoints[delay]
    options = ("--s3-provider=SeaweedFS", f"--s3-endpoint={endpoint}", "--s3-env-auth", "--s3-force-path-style")
    return [
        rclone.rclone("full", f":s3:{BUCKET}/{PREFIX}", settings, *options),
        juicefs.juicefs(there.meta, f"{endpoint}/{JUICEFS_BUCKET}", settings),
        s3fs(BUCKET, PREFIX, settings),
    ]


def subjects_at(run: Run, there: Remote, delay: int, *, plain: bool = False) -> list[Subject]:
    """Return all that can run here, with packs and, if ``plain``, without."""
    without = ours(there.server, delay, packs=False) if plain else []
    return usable(run, [*ours(there.server, delay), *without, *peers_at(there, delay)])
