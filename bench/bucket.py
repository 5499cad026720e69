"""First reads from a real S3 server on this machine: through our mounts, through rclone's, and with boto3 alone.

The server is the tests' Ceph RADOS Gateway. It shares the machine's processors with whoever asks it, so these rows
compare the CPU that each way of asking takes, and not what a network would do.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.readers import run_readers
from bench.rows import Row, Run, in_order_of_round, run_session, usable
from bench.subjects import fusepkg, rclone
from tests.machine import why_no_s3
from tests.rgw import REGION, Credentials, aws_environment, start_gateway

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from bench.rows import Measure
    from bench.workload import Loop, Tree

FILES, DIRECTORIES = 5_000, 100
READERS = (4, 16)
BOTO3_THREADS = 16
PREFIX = "objects"


def bucket_reads(run: Run, stack: ExitStack) -> Measure:
    """Many small objects, each read once."""
    if reason := why_no_s3():
        run.results.skipped["s3"] = reason
        return lambda _: None
    source = run.scratch / "bucket"
    tree = workload.write_tree(source, directories=DIRECTORIES, files=run.scaled(FILES))
    gateway = start_gateway(run.scratch / "rgw", stack)
    bucket = gateway.bucket()
    settings = aws_environment(gateway.endpoint, gateway.owner)
    reference = f"{bucket}/small:bench"
    with run.place() as home:
        fusepkg.run(fusepkg.environment(home, settings), "push", "--prefix", PREFIX, source, reference)
    options = ("--s3-provider=Ceph", f"--s3-endpoint={gateway.endpoint}", f"--s3-region={REGION}", "--s3-env-auth")
    subjects = usable(
        run,
        [
            *(fusepkg.fusepkg(engine, reference, settings) for engine in fusepkg.ENGINES),
            *(rclone.rclone(mode, f":s3:{bucket}/{PREFIX}", settings, *options) for mode in rclone.MODES),
        ],
    )
    rows = [_row(tree, readers) for readers in READERS]
    gets = boto3_gets(gateway.endpoint, gateway.owner, bucket, tree)

    def measure(number: int) -> None:
        for row in rows:
            for one in in_order_of_round(subjects, number):
                run_session(run, one, [row], number)
            with run.attempt(f"boto3, {row.key}"):
                run.forget_caches()
                load = machine.load()
                timing = run_readers([gets])
                run.record_value(row.key, f"boto3 x{BOTO3_THREADS}", number, timing.rate, load)

    return measure


def _row(tree: Tree, readers: int) -> Row:
    reading = partial(workload.read_files, tree=tree, readers=readers)
    return Row(f"s3.first.{readers}", f"S3, first read, {readers} readers", "files/s", reading, machine.ALL, once=True)


def boto3_gets(endpoint: str, owner: Credentials, bucket: str, tree: Tree) -> Loop:
    """A program without a mount: ``get_object`` of every key, in many threads of one process."""

    def prepare() -> Callable[[], float]:
        import boto3  # here, so that its threads and connections are the reader's own
        from botocore.config import Config

        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name=REGION,
            aws_access_key_id=owner.access_key, aws_secret_access_key=owner.secret_key,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=BOTO3_THREADS),
        )  # fmt: skip

        def get(path: str) -> int:
            return len(client.get_object(Bucket=bucket, Key=f"{PREFIX}/{path}")["Body"].read())

        def work() -> float:
            with ThreadPoolExecutor(BOTO3_THREADS) as threads:
                found = sum(threads.map(get, tree.paths))
            workload.expect(found, len(tree.paths) * tree.file_bytes, "bytes")
            return len(tree.paths)

        return work

    return prepare
