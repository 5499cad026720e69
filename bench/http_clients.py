"""What a GET costs by obstore, by our own client and by boto3: ``python -m bench.http_clients`` prints a table.

Not a row of ``make bench``: it compares clients, without a mount, check or cache, on the tests' Ceph RADOS Gateway.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.store.protocol import Wanted
from fusepkg.store.s3 import S3Settings, S3Store
from tests.rgw import REGION, Gateway, aws_environment, start_gateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.store.protocol import Answers

SMALL, SMALL_BYTES, IN_FLIGHT = 3_000, 10_000, 64
LARGE_BYTES, RANGE_BYTES, RANGES_IN_FLIGHT = 256 * 1024**2, 8 * 1024**2, 8
THREADS = 16
ROUNDS = 3

Part = tuple[str, int, int]
"""Key, offset and length."""


def main() -> None:
    """Measure each client in turn, ``ROUNDS`` times, and print the best of each."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway = start_gateway(directory / "rgw", stack)
        os.environ.update(aws_environment(gateway.endpoint, gateway.owner))
        bucket = gateway.bucket()
        small = [(f"{number}", 0, SMALL_BYTES) for number in range(SMALL)]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda one: gateway.s3.put_object(Bucket=bucket, Key=one[0], Body=bytes(SMALL_BYTES)), small))
        gateway.s3.put_object(Bucket=bucket, Key="large", Body=bytes(LARGE_BYTES))
        large = [("large", at, RANGE_BYTES) for at in range(0, LARGE_BYTES, RANGE_BYTES)]
        clients = {"obstore": _obstore(gateway, bucket), "ours": _ours(bucket), "boto3": _boto3(gateway, bucket)}
        print("| client | CPU per GET of 10 KB | GETs/s | MB/s of 8 MiB ranges | CPU per MB |\n|---|---|---|---|---|")  # noqa: T201
        figures: dict[str, list[tuple[float, ...]]] = {name: [] for name in clients}
        for _ in range(ROUNDS):
            for name, read in clients.items():
                gets, get_cpu = _timed(lambda read=read: read(small, IN_FLIGHT))  # type: ignore[misc]
                ranges, range_cpu = _timed(lambda read=read: read(large, RANGES_IN_FLIGHT))  # type: ignore[misc]
                megabytes = LARGE_BYTES / 1e6
                figures[name].append((-get_cpu / SMALL, SMALL / gets, megabytes / ranges, -range_cpu / megabytes))
        for name, rounds in figures.items():
            cpu, rate, throughput, per_megabyte = (max(each) for each in zip(*rounds, strict=True))
            print(  # noqa: T201
                f"| {name} | {-cpu * 1e6:.0f} us | {rate:.0f} | {throughput:.0f} | {-per_megabyte * 1e6:.0f} us |"
            )


def _timed(call: Callable[[], int]) -> tuple[float, float]:
    """Seconds and CPU seconds, of this process alone, that a call takes."""
    began, cpu = time.monotonic(), time.process_time()
    call()
    return time.monotonic() - began, time.process_time() - cpu


def _ours(bucket: str) -> Callable[[list[Part], int], int]:
    store = S3Store(bucket, S3Settings())

    def read(parts: list[Part], in_flight: int) -> int:
        done = threading.Event()
        left, total = list(enumerate(parts)), 0

        def take(answers: Answers) -> None:
            nonlocal total
            for _, answer in answers:
                assert isinstance(answer, bytes), answer
                total += len(answer)
            ask(len(answers))
            if total == sum(length for _, _, length in parts):
                done.set()

        def ask(count: int) -> None:
            asked, left[:] = left[:count], left[count:]
            reads.submit([Wanted(number, key, None, at, length) for number, (key, at, length) in asked])

        reads = store.open_reads(take)
        ask(in_flight)
        done.wait()
        reads.close()
        return total

    return read


def _obstore(gateway: Gateway, bucket: str) -> Callable[[list[Part], int], int]:
    import obstore
    from obstore.store import S3Store as ObstoreS3

    store = ObstoreS3(
        bucket, endpoint=gateway.endpoint, region=REGION, client_options={"allow_http": True},
        access_key_id=gateway.owner.access_key, secret_access_key=gateway.owner.secret_key,
    )  # fmt: skip

    async def read_all(parts: list[Part], in_flight: int) -> int:
        slots = asyncio.Semaphore(in_flight)

        async def one(key: str, at: int, length: int) -> int:
            async with slots:
                answer = await obstore.get_async(store, key, options={"range": (at, at + length)})
                return len((await answer.bytes_async()).to_bytes())

        return sum(await asyncio.gather(*(one(*part) for part in parts)))

    return lambda parts, in_flight: asyncio.run(read_all(parts, in_flight))


def _boto3(gateway: Gateway, bucket: str) -> Callable[[list[Part], int], int]:
    client = gateway.client()

    def one(part: Part) -> int:
        key, at, length = part
        return len(client.get_object(Bucket=bucket, Key=key, Range=f"bytes={at}-{at + length - 1}")["Body"].read())

    def read(parts: list[Part], in_flight: int) -> int:
        with ThreadPoolExecutor(min(THREADS, in_flight)) as threads:
            return sum(threads.map(one, parts))

    return read


if __name__ == "__main__":
    main()
