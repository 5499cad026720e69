"""Claims: of all threads and processes that miss a blob, one fetches it.

A claim is a lock on one byte of one empty file, at an offset made of the digest, with a descriptor of its own: an open
file description lock, so threads of a process keep each other out as processes do, and the kernel drops it when its
process ends, however. Nothing is written, so there is nothing to sweep. Waiters poll instead of sleeping
in the kernel, so that they can time out when the holder was stopped or its fetch stalls. A claim saves work only: if
it cannot be had (a read-only directory, a file system without locks, a deleted file), a blob is fetched twice, and
kept once.

The byte after a claim's own is its heartbeat: the holder of a long fetch locks or unlocks it with every piece, and
waiters see the progress.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import xxhash

from fusepkg_cache.records import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from fusepkg_cache.digest import Digest

PATIENCE_S = 10.0
"""How long a waiter lets a holder be that shows no sign of life: longer than most fetches of 8 MiB take, short enough
for a reader who waits behind a stopped process."""

IMPATIENCE_S = 30.0
"""After one timeout, ignore all claims for this long: a stopped process may hold dozens of claims, and a reader who
wants all those blobs must not wait for each."""

FIRST_PAUSE_S = 0.001
"""Until a waiter asks for the second time."""

LONGEST_PAUSE_S = 0.016
"""Between two questions later on: each costs some 15 us, and a reader waits half of it too long."""

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, pid (0 for locks of this kind)."""

_lock = threading.Lock()
_open: dict[int, Claim] = {}


def _forget_inherited() -> None:
    """In a forked child: close its copies of the parent's claims, or they would outlive the parent."""
    for descriptor in _open:
        os.close(descriptor)
    _open.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_inherited)


class Claims:
    """The claims on the blobs of one cache directory, made in the file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._impatient_until = 0.0

    def of(self, digest: Digest, patience_s: float) -> Claim:
        """A claim on a blob, not taken yet."""
        return Claim(self, digest, patience_s)

    def open(self) -> int:
        """A descriptor to lock with. Raises OSError."""
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    @property
    def impatient(self) -> bool:
        """Whether somebody lost patience a short while ago."""
        return time.monotonic() < self._impatient_until

    def lose_patience(self) -> None:
        """Ignore all claims for a while."""
        self._impatient_until = time.monotonic() + IMPATIENCE_S


class ClaimedBatch:
    """The claims of many blobs at once, each taken or somebody else's; made by ``Cache.claim_many``. Never waits.

    ``taken`` are to be fetched by the caller, ``others`` are being fetched by another thread or process: look in the
    cache again, and claim what is still missing a moment later. Leaving the block releases what is still held.
    """

    def __init__(self, claims: list[Claim]) -> None:
        self._held = {claim.digest: claim for claim in claims if claim.take()}
        self.taken = list(self._held)
        self.others = [claim.digest for claim in claims if claim.digest not in self._held]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def beat(self) -> None:
        """Refresh the heartbeat of all that is held; now and then, while the fetch goes on."""
        for claim in list(self._held.values()):
            claim.beat()

    def release(self, digests: Iterable[Digest] | None = None) -> None:
        """Let others fetch these blobs, or all of them."""
        for digest in list(self._held) if digests is None else digests:
            claim = self._held.pop(digest, None)
            if claim is not None:
                claim.release()


class Claim:
    """The right to fetch one blob, from ``take`` to the end of the block; made by ``Cache.claim``.

    Call ``take`` until it is True, sleep for ``pause_s`` in between, and look whether the blob has come.
    """

    def __init__(self, claims: Claims, digest: Digest, patience_s: float) -> None:
        self._claims = claims
        self.digest = digest
        self._offset = xxhash.xxh3_64_intdigest(key_of(digest)) >> 3 << 1  # even, and beat included below 2^62
        self._patience_s = patience_s
        self._descriptor = -1
        self._alive_s = time.monotonic()
        self._beat = False
        self.pause_s = FIRST_PAUSE_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """Whether all others wait for this claim."""
        return self._descriptor in _open and _open[self._descriptor] is self

    def take(self) -> bool:
        """Return whether to fetch the blob now: it is claimed, or claims are ignored. Never waits."""
        if self.held:
            return True
        try:
            if self._lock():
                return True
        except OSError:  # no claims here: everybody fetches
            return True
        if self._claims.impatient:
            return True
        if time.monotonic() - self._alive_s >= self._patience_s:
            self._claims.lose_patience()
            return True
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        return False

    def beat(self) -> None:
        """Tell those who wait that the fetch goes on; now and then, where it may outlast their patience."""
        with _lock:  # another thread may release it just now, and the descriptor be somebody else's
            if self.held:
                self._beat = not self._beat
                kind = fcntl.F_WRLCK if self._beat else fcntl.F_UNLCK
                with suppress(OSError):
                    _set(self._descriptor, kind, self._offset + 1, 1)

    def release(self) -> None:
        """Let others fetch the blob. Does nothing where it is not claimed."""
        with _lock:
            if not self.held:
                return
            del _open[self._descriptor]
            try:
                _set(self._descriptor, fcntl.F_UNLCK, 0, 0)  # first: a process forked just now may share it
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _lock(self) -> bool:
        """Whether the claim is ours; if not, the holder's beat is noted. Raises OSError."""
        with _lock:  # no fork between opening and knowing the descriptor
            descriptor = self._claims.open()
            try:
                _set(descriptor, fcntl.F_WRLCK, self._offset, 1)
            except BlockingIOError:
                try:
                    self._note(beat=_locked(descriptor, self._offset + 1))
                finally:
                    os.close(descriptor)
                return False
            except OSError:
                os.close(descriptor)
                raise
            _open[descriptor] = self
            self._descriptor, self._beat = descriptor, False
            return True

    def _note(self, *, beat: bool) -> None:
        if beat != self._beat:
            self._beat = beat
            self._alive_s = time.monotonic()


def _locked(descriptor: int, offset: int) -> bool:
    """Whether somebody else has a byte locked."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    kind: int = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK


def _set(descriptor: int, kind: int, start: int, length: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
