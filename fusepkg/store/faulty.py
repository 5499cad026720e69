"""A store that fails on demand, around any other: for tests of what stands on stores.

gate = Gate()
store = FaultyStore(inner, [Fault("get", key="a", error=RemoteUnavailable("down")), Fault("create", gate=gate)])
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

from fusepkg.store.protocol import AT_MOST_BYTES
from fusepkg.store.threaded_reads import ThreadedReads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from fusepkg.errors import FusepkgError
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import AsyncReads, Deliver, ObjectInfo, ObjectStore

Call: TypeAlias = Literal[
    "get", "stream", "head", "part_bytes", "list", "list_versions", "list_directories", "create", "copy", "overwrite"
]

GATE_TIMEOUT_S = 60.0
"""How long a gate is waited for before the test fails: only a test that would hang comes near it."""


class Gate:
    """Holds calls: each that arrives waits until the gate is opened, for ever after it does not."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._opened = threading.Event()

    def wait_reached(self, calls: int = 1) -> None:
        """Wait until so many more calls stand at the gate."""
        for _ in range(calls):
            if not self._reached.acquire(timeout=GATE_TIMEOUT_S):
                raise TimeoutError("no call reached the gate")

    def open(self) -> None:
        """Let all go on."""
        self._opened.set()

    def pass_through(self) -> None:
        """Arrive and wait."""
        self._reached.release()
        if not self._opened.wait(GATE_TIMEOUT_S):
            raise TimeoutError("the gate was never opened")


@dataclass(slots=True)
class Fault:
    """What goes wrong with calls of one kind (and ``key``, or prefix for listings; None: any).

    The first ``skip`` such calls are left alone, the next ``times`` (None: all) are not. In this order: the call stands
    at the ``gate``; the inner call is made, unless there is an ``error`` and not ``afterwards``; ``error`` is raised;
    bytes read are what ``spoil`` makes of them.
    """

    call: Call
    key: str | None = None
    skip: int = 0
    times: int | None = 1
    gate: Gate | None = None
    error: FusepkgError | None = None
    afterwards: bool = False
    spoil: Callable[[bytes], bytes] | None = None


def flip(at: int) -> Callable[[bytes], bytes]:
    """Spoil one byte."""
    return lambda data: data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def truncate(to: int) -> Callable[[bytes], bytes]:
    """Lose the end."""
    return lambda data: data[:to]


@dataclass(slots=True)
class FaultyStore:
    """``inner`` with the faults of a plan; ``calls`` lists every call made, as (name, key or prefix)."""

    inner: ObjectStore
    plan: list[Fault] = field(default_factory=list)
    calls: list[tuple[Call, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(
        self,
        key: str,
        *,
        version: str | None = None,
        offset: int = 0,
        length: int | None = None,
        at_most: int = AT_MOST_BYTES,
    ) -> bytes:
        """See ObjectStore."""
        fault = self._meet("get", key)
        data = self.inner.get(key, version=version, offset=offset, length=length, at_most=at_most)
        return _spoiled(fault, data)

    def open_reads(self, deliver: Deliver) -> AsyncReads:
        """See ObjectStore."""
        return ThreadedReads(self.get, deliver)

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        """See ObjectStore. An error with ``afterwards`` comes after the first piece."""
        fault = self._meet("stream", key)
        pieces = self.inner.stream(key, version=version, piece_bytes=piece_bytes)
        if fault is None:
            yield from pieces
        elif fault.error is not None:
            yield from islice(pieces, 1)
            raise fault.error
        else:
            data = _spoiled(fault, b"".join(pieces))
            yield from (data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes))

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """See ObjectStore."""
        self._meet("head", key)
        return self.inner.head(key, version=version)

    def part_bytes(self, key: str, *, version: str | None = None) -> list[int] | None:
        """See ObjectStore."""
        self._meet("part_bytes", key)
        return self.inner.part_bytes(key, version=version)

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        self._meet("list", prefix)
        yield from self.inner.list(prefix, limit=limit)

    def list_versions(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        self._meet("list_versions", prefix)
        yield from self.inner.list_versions(prefix)

    def list_directories(self, prefix: str) -> Iterator[str]:
        """See ObjectStore."""
        self._meet("list_directories", prefix)
        yield from self.inner.list_directories(prefix)

    def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore."""
        return self._write("create", key, lambda: self.inner.create(key, source, metadata=metadata))

    def copy(
        self,
        source: PhysicalKey,
        key: str,
        *,
        size: int,
        etag: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """See ObjectStore."""
        return self._write("copy", key, lambda: self.inner.copy(source, key, size=size, etag=etag, metadata=metadata))

    def stays(self, found: ObjectInfo) -> bool:
        """See ObjectStore."""
        return self.inner.stays(found)

    def overwrite(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore."""
        return self._write("overwrite", key, lambda: self.inner.overwrite(key, source, metadata=metadata))

    def sign_url(self, key: str, *, version: str | None = None, expires_s: int) -> str:
        """See ObjectStore."""
        return self.inner.sign_url(key, version=version, expires_s=expires_s)

    def url(self, key: str, version: str | None = None) -> str:
        """See ObjectStore."""
        return self.inner.url(key, version)

    def count(self, call: Call, key: str | None = None) -> int:
        """How many calls of a kind were made."""
        with self._lock:
            return sum(made == call and key in (None, made_key) for made, made_key in self.calls)

    def add(self, *faults: Fault) -> None:
        """Plan more faults."""
        with self._lock:
            self.plan.extend(faults)

    def heal(self) -> None:
        """Forget the plan; calls at a gate stay there."""
        with self._lock:
            self.plan.clear()

    def _write(self, call: Call, key: str, write: Callable[[], ObjectInfo]) -> ObjectInfo:
        fault = self._meet(call, key)
        info = write()
        if fault is not None and fault.error is not None:
            raise fault.error
        return info

    def _meet(self, call: Call, key: str) -> Fault | None:
        """Record a call; stand at its gate and raise its error, unless that comes afterwards; the fault, if any."""
        with self._lock:
            self.calls.append((call, key))
            fault = next((fault for fault in self.plan if _takes(fault, call, key)), None)
        if fault is None:
            return None
        if fault.gate is not None:
            fault.gate.pass_through()
        if fault.error is not None and not fault.afterwards:
            raise fault.error
        return fault


def _takes(fault: Fault, call: Call, key: str) -> bool:
    """Whether a fault spoils this call; counts it."""
    if fault.times == 0 or fault.call != call or fault.key not in (None, key):
        return False
    if fault.skip:
        fault.skip -= 1
        return False
    if fault.times is not None:
        fault.times -= 1
    return True


def _spoiled(fault: Fault | None, data: bytes) -> bytes:
    if fault is not None and fault.error is not None:
        raise fault.error
    return data if fault is None or fault.spoil is None else fault.spoil(data)
