"""GETs of a bare loop over obstore, without a mount, check or cache: what the way to the server gives."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from bench.workload import Loop

Part = tuple[int, int]
"""Start and end of a range."""


def bare_gets(
    settings: dict[str, str],
    bucket: str,
    requests: Iterable[tuple[str, Part | None]],
    in_flight: int,
    cpu_file: Path,
    work_done: float,
) -> Loop:
    """Get keys, or ranges of keys; the CPU seconds of the process go into ``cpu_file``."""

    def prepare() -> Callable[[], float]:
        import obstore
        from obstore.store import S3Store

        store = S3Store(
            bucket, endpoint=settings["AWS_ENDPOINT_URL_S3"], region=settings["AWS_REGION"],
            access_key_id=settings["AWS_ACCESS_KEY_ID"], secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )  # fmt: skip

        async def get(key: str, part: Part | None) -> int:
            if part is None:
                return len(await (await obstore.get_async(store, key)).bytes_async())
            return len(await obstore.get_range_async(store, key, start=part[0], end=part[1]))

        def work() -> float:
            started_s = time.process_time()
            asyncio.run(_all_of((partial(get, *request) for request in requests), in_flight))
            cpu_file.write_text(str(time.process_time() - started_s))
            return work_done

        return work

    return prepare


async def _all_of(calls: Iterable[Callable[[], Awaitable[int]]], in_flight: int) -> int:
    """Await all calls, so many at once; return the sum of what they give."""
    waiting = iter(calls)

    async def some() -> int:
        return sum([await call() for call in waiting])

    return sum(await asyncio.gather(*(some() for _ in range(in_flight))))
