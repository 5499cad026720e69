"""Verified bytes of objects, from the bucket: many requests at a time, each tried again if its bytes are wrong."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from fusepkg_cache.digest import chunk_count, chunk_size, combine_chunks, verified
from fusepkg_cache.errors import CacheError, WrongBytes

from fusepkg.errors import AccessDenied, DigestMismatch, FusepkgError, ObjectMissing, RemoteProtocol
from fusepkg.fetch.flight import RangeFlight
from fusepkg.fetch.piece import Kind
from fusepkg.fetch.retries import MISMATCH_TRIES
from fusepkg.fetch.slots import SLOW_SMALL, SMALL_BYTES, SMALL_SLOTS
from fusepkg.fetch.verified import expected_object, mismatch, of_size, until_right
from fusepkg.fetch.workers import DaemonThreads
from fusepkg.store.protocol import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg_cache.digest import Digest, Verified

    from fusepkg.fetch.flight import Flight
    from fusepkg.fetch.piece import Piece
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import Answers, AsyncReads, ObjectStore

log = logging.getLogger(__name__)

HASHING_THREADS = 32
"""Most threads that hash large pieces."""

ASKING_THREADS = 2 * (SMALL_SLOTS + SLOW_SMALL)
"""Most threads that wait for answers: for chunk lists (one for each that has a slot or is slow, one more for its second
request), and for other places of objects. Requests that stall must not hold up the hashing of what has arrived."""

Outcome: TypeAlias = "Verified | bytes | list[Verified | None] | FusepkgError"
"""What comes of a piece: its bytes, b"" if there is no chunk list, the blobs of a range as far as they are right, or an
error."""

_T = TypeVar("_T")


class BucketReader:
    """The stores behind entries.

    ``chunk_list`` asks the registry, blocking. ``arrived`` is called from any thread when ``drain`` has something new;
    ``note_damaged`` likewise, with objects that are missing or hold other bytes; ``elsewhere``, which may block, is
    asked once for each of those where its bytes lie now (None: nowhere else).
    """

    def __init__(
        self,
        store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]],
        chunk_list: Callable[[Digest], list[bytes]],
        arrived: Callable[[], None],
        note_damaged: Callable[[PhysicalKey], None],
        elsewhere: Callable[[Entry], PhysicalKey | None],
    ) -> None:
        self._store_for = store_for
        self._ask_chunk_list = chunk_list
        self._call_arrived = arrived
        self._note_damaged = note_damaged
        self._elsewhere = elsewhere
        self._outcomes: deque[tuple[Flight, Outcome]] = deque()
        self._is_told = False
        self._wrong_answers = 0
        self._counting = threading.Lock()
        self._hashers = DaemonThreads(HASHING_THREADS, "fusepkg-hash")
        self._askers = DaemonThreads(ASKING_THREADS, "fusepkg-ask")
        self._reads: dict[int, tuple[ObjectStore, AsyncReads]] = {}
        self._tickets = count()
        self._asked: dict[int, Flight] = {}

    def close(self) -> None:
        """Give up what is under way; neither the loop nor the process waits for a request."""
        self._hashers.close()
        self._askers.close()
        for _, reads in self._reads.values():
            reads.close()

    @property
    def wrong_answers(self) -> int:
        """How many answers held other bytes than they should."""
        return self._wrong_answers

    def submit(self, flights: Iterable[Flight]) -> None:
        """Begin to fetch pieces; ``drain`` gives what comes of each."""
        wanted: dict[int, list[Wanted]] = {}
        for flight in flights:
            if flight.piece.kind is Kind.LIST:
                self._askers.submit(partial(self._answer, flight, partial(self._get_chunk_list, flight.piece)))
                continue
            piece = flight.piece
            try:
                number, key = self._contained(flight.entry, partial(self._reads_of, flight.entry))
            except FusepkgError as exc:
                self._put(flight, exc)
                continue
            ticket = next(self._tickets)
            self._asked[ticket] = flight
            # A range, for whole blobs too: an object that somebody replaced by a huge one must not fill the memory. One
            # byte more than the blob has tells such an object from the right one.
            length = piece.length + (piece.length == piece.entry.size)
            one = Wanted(ticket, key, flight.entry.physical_key.version, piece.offset, length)
            wanted.setdefault(number, []).append(one)
        for number, some in wanted.items():
            self._reads[number][1].submit(some)

    def drain(self) -> Iterator[tuple[Flight, Outcome]]:
        """Yield what has arrived. An empty chunk list, for which there is no Verified, says that there is none."""
        self._is_told = False  # before looking: what comes later tells again
        while self._outcomes:
            yield self._outcomes.popleft()

    def give(self, entry: Entry, take: Callable[[Iterator[bytes]], _T]) -> _T:
        """Return what ``take`` makes of a whole object, in pieces, which it checks; perhaps twice. Blocks.

        Raises: RemoteError, DigestMismatch, and what ``take`` raises.
        """

        expected = expected_object(entry)

        def stream() -> _T:
            store, key = self._store_for(entry.physical_key)
            pieces = store.stream(key, version=entry.physical_key.version, piece_bytes=chunk_size(entry.size))
            try:
                return take(of_size(expected, pieces))
            except WrongBytes as exc:
                raise mismatch(expected) from exc

        return self._contained(entry, partial(until_right, expected, stream))

    # --- in threads of the store or of our own -----------------------------------------------------------------

    def _deliver(self, answers: Answers) -> None:
        for ticket, answer in answers:
            flight = self._asked.pop(ticket, None)
            if flight is None:
                continue
            check = partial(self._answer, flight, partial(self._checked, flight, answer))
            if flight.piece.length > SMALL_BYTES and isinstance(answer, bytes):
                self._hashers.submit(check)  # hashing it takes milliseconds, and others arrive meanwhile
            else:
                check()

    def _answer(self, flight: Flight, fetch: Callable[[], Outcome | None]) -> None:
        try:
            outcome = self._contained(flight.entry, fetch, is_optional=flight.piece.is_optional)
        except FusepkgError as exc:
            if (
                not flight.piece.is_optional
                and flight.place is None
                and isinstance(exc, ObjectMissing | DigestMismatch)
            ):
                self._askers.submit(partial(self._try_elsewhere, flight, exc))
                return
            outcome = exc
        if outcome is not None:
            self._put(flight, outcome)

    def _try_elsewhere(self, flight: Flight, error: FusepkgError) -> None:
        if self.has_moved(flight):
            self.submit([flight])
        else:
            self._put(flight, error)

    def has_moved(self, flight: Flight) -> bool:
        """Return whether the bytes of a flight lie elsewhere by now; it is then to be fetched from there. Blocks."""
        entry = flight.piece.entry
        if flight.place is None:
            with suppress(FusepkgError):
                flight.place, flight.wrong = self._contained(entry, partial(self._elsewhere, entry)), 0
            return flight.place is not None
        return False

    def _checked(self, flight: Flight, answer: bytes | FusepkgError) -> Verified | list[Verified | None] | None:
        """Return the bytes, verified; None if they are wrong and were asked for again. Raises FusepkgError."""
        if isinstance(answer, FusepkgError):
            raise answer
        if isinstance(flight, RangeFlight):
            blobs = flight.split(answer)
            if None in blobs:
                self._count_wrong()
            return blobs
        piece = flight.piece
        with suppress(WrongBytes):
            if len(answer) == piece.length:
                return verified(piece.name, answer)
        self._count_wrong()
        flight.wrong += 1
        if flight.wrong >= MISMATCH_TRIES:
            raise mismatch(expected_object(flight.entry))
        log.warning("%s: wrong bytes from %s, fetching again", piece.entry.logical_key, flight.entry.physical_key)
        self.submit([flight])
        return None

    def _count_wrong(self) -> None:
        with self._counting:
            self._wrong_answers += 1

    def _put(self, flight: Flight, outcome: Outcome) -> None:
        self._outcomes.append((flight, outcome))
        if not self._is_told:
            self._is_told = True
            self._call_arrived()

    def _reads_of(self, entry: Entry) -> tuple[int, str]:
        """Return the number of the reads of an entry's bucket, opened now if need be, and the object's key there."""
        store, key = self._store_for(entry.physical_key)
        if id(store) not in self._reads:
            self._reads[id(store)] = (store, store.open_reads(self._deliver))
        return id(store), key

    def _contained(self, entry: Entry, fetch: Callable[[], _T], *, is_optional: bool = False) -> _T:
        """Run a fetch; whatever a native library raises becomes a RemoteError. Notes damaged objects, but no packs or
        lists of block hashes."""
        try:
            return fetch()
        except (FusepkgError, CacheError) as exc:
            if isinstance(exc, ObjectMissing | DigestMismatch) and not is_optional:
                self._note_damaged(entry.physical_key)
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # a panic in Rust is no Exception, and must cost this read only
            log.exception("fetching %s failed, which is a bug", entry.physical_key)
            raise RemoteProtocol(f"{entry.physical_key}: fetching failed: {type(exc).__name__}: {exc}") from exc

    def _get_chunk_list(self, piece: Piece) -> Verified | bytes:
        """Return the raw hashes of the entry's chunks; b"" if there is no list that can be used.

        S3 says 403 of what is not there to those who may not list the bucket, as of public data.
        """
        entry = piece.entry
        try:
            chunks = self._ask_chunk_list(entry.digest)
        except (ObjectMissing, AccessDenied, DigestMismatch) as exc:
            if isinstance(exc, DigestMismatch):
                self._count_wrong()
            log.info("%s has no usable chunk list, so it is fetched whole: %s", entry.logical_key, exc.message)
            return b""
        if combine_chunks(chunks) != entry.digest or len(chunks) != chunk_count(entry.size):
            self._count_wrong()
            log.info("%s has a chunk list that does not hash to it, so it is fetched whole", entry.logical_key)
            return b""
        return verified(piece.name, b"".join(chunks))
