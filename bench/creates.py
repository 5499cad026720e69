"""Creating small objects: through our store, and with boto3 alone."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.bucket import BOTO3_THREADS
from bench.readers import run_readers
from fusepkg.store.s3 import S3Settings, S3Store
from tests.machine import why_no_s3
from tests.rgw import REGION, Gateway, aws_environment, start_gateway

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from bench.rows import Measure, Run
    from bench.workload import Loop

OBJECTS = 2_000
ROW = "s3-create.16"


def creating(run: Run, stack: ExitStack) -> Measure:
    """Conditional PUTs of 10 KB from 16 threads of one process."""
    if reason := why_no_s3():
        run.results.skipped["s3-create"] = reason
        return lambda _: None
    gateway = start_gateway(run.scratch / "rgw-create", stack)
    count = run.scaled(OBJECTS)
    run.results.add_row(ROW, "create objects of 10 KB, 16 threads", "objects/s")
    loops = {"store": _with_store, f"boto3 x{BOTO3_THREADS}": _with_boto3}

    def measure(number: int) -> None:
        for subject, loop in list(loops.items())[:: 1 if number % 2 == 0 else -1]:
            with run.attempt(f"{subject}, {ROW}"):
                load = machine.load()
                timing = run_readers([loop(gateway, gateway.bucket(), count)])
                run.record_value(ROW, subject, number, timing.rate, load)

    return measure


def _with_store(gateway: Gateway, bucket: str, count: int) -> Loop:
    def prepare() -> Callable[[], float]:
        os.environ.update(aws_environment(gateway.endpoint, gateway.owner))
        store = S3Store(bucket, S3Settings())
        data = os.urandom(workload.SMALL_FILE_BYTES)
        return lambda: _in_threads(lambda number: store.create(f"objects/{number}", data), count)

    return prepare


def _with_boto3(gateway: Gateway, bucket: str, count: int) -> Loop:
    def prepare() -> Callable[[], float]:
        import boto3  # here, so that its connections are the reader's own
        from botocore.config import Config

        client = boto3.client(
            "s3", endpoint_url=gateway.endpoint, region_name=REGION,
            aws_access_key_id=gateway.owner.access_key, aws_secret_access_key=gateway.owner.secret_key,
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=BOTO3_THREADS),
        )  # fmt: skip
        data = os.urandom(workload.SMALL_FILE_BYTES)

        def put(number: int) -> object:
            return client.put_object(Bucket=bucket, Key=f"objects/{number}", Body=data, IfNoneMatch="*")

        return lambda: _in_threads(put, count)

    return prepare


def _in_threads(create: Callable[[int], object], count: int) -> float:
    with ThreadPoolExecutor(BOTO3_THREADS) as threads:
        return float(sum(1 for _ in threads.map(create, range(count))))
