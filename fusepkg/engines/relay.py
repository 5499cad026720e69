"""Requests of a session in this process: what can be answered at once is, reads that wait become tasks, and pyfuse3
gets all others, over a socket in the place of the session's descriptor.

pyfuse3 and trio take 75 us for a request, an answer from ``answers`` 15. And a process that has the session's
descriptor to itself can share it: ``crew`` starts others, which pass on here what they cannot answer.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

import trio

from fusepkg.engines import wire
from fusepkg.engines.front import write_answer
from fusepkg.engines.handlers import UNDER_WAY, errno_to_answer
from fusepkg.engines.session_end import is_over
from fusepkg.engines.wire import Opcode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fusepkg.engines.answers import Answers

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Requests answered before other tasks of this process get their turn."""

LISTING_BYTES = 64 * 1024
"""Most of a listing that pyfuse3 is asked for at a time."""

_ROOM_BYTES = 4 * 1024 * 1024
"""Asked of the kernel for the socket: one answer of a listing has some KiB, but many may wait."""


class Relay:
    """Between the session behind ``device`` and pyfuse3 at the other end of ``link``.

    ``read(inode, handle, offset, length)`` waits for bytes; ``note_read`` hears of reads that others have answered.
    """

    def __init__(
        self,
        answers: Answers,
        read: Callable[[int, int, int], Awaitable[bytes]],
        note_read: Callable[[int, int, int, int], None],
    ) -> None:
        self._answers = answers
        self._read = read
        self._note_read = note_read
        self._device = -1
        self._link: socket.socket
        self._nursery: trio.Nursery
        self._is_reading = False
        self._waiting = trio.CancelScope()
        self._has_stopped = trio.Event()
        self.has_begun = trio.Event()
        self._buffer = bytearray(wire.LARGEST_REQUEST)

    def take_over(self, number: int) -> None:
        """Put a socket in the place of descriptor ``number``, which is pyfuse3's. No request may be under way in it."""
        device = os.dup(number)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            os.dup2(theirs.fileno(), number, inheritable=False)
        self.begin(device, ours)

    def begin(self, device: int, link: socket.socket) -> None:
        """Relay between these."""
        # What is waiting may be taken by another process in between: then nobody may wait in a read of the session. A
        # process that died just now may still have read, beside its successor.
        os.set_blocking(device, False)
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)
        self._device, self._link = device, link
        self.has_begun.set()

    def close(self) -> None:
        """Let go of the session."""
        if self._device >= 0:
            os.close(self._device)
            self._link.close()
            self._device = -1

    @property
    def is_closed(self) -> bool:
        """Whether the session is over."""
        return self._device < 0 or is_over(self._device)

    @property
    def device(self) -> int:
        """The session's descriptor."""
        return self._device

    def start(self, nursery: trio.Nursery) -> None:
        """Relay in tasks of ``nursery``, until it is cancelled."""
        self._nursery = nursery
        nursery.start_soon(self._pass_answers)
        nursery.start_soon(self._read_requests)

    async def stop_reading(self) -> None:
        """Read no more requests from the session: other processes do, until ``read_again``."""
        if self._is_reading:
            self._waiting.cancel()
            await self._has_stopped.wait()

    def read_again(self) -> None:
        """Read requests from the session, now that no other process does."""
        if not self._is_reading and not self.is_closed:
            self._nursery.start_soon(self._read_requests)

    # --- requests --------------------------------------------------------------------------------------------

    async def _read_requests(self) -> None:
        """Read requests from the session, until told to stop or the session ends."""
        self._is_reading, self._waiting, self._has_stopped = True, trio.CancelScope(), trio.Event()
        try:
            while not self._waiting.cancel_called:
                with self._waiting:  # what was read is answered: only waiting is cancelled
                    await trio.lowlevel.wait_readable(self._device)
                if not await self._take_waiting():
                    break
                if not self._waiting.cancel_called:
                    self._waiting = trio.CancelScope()
        finally:
            self._is_reading = False
            self._has_stopped.set()

    async def _take_waiting(self) -> bool:
        """Take requests that wait; return False at the end of the session."""
        view = memoryview(self._buffer)
        for _ in range(AT_ONCE):
            try:
                count = os.readv(self._device, [self._buffer])
            except BlockingIOError:
                break
            except FileNotFoundError:  # interrupted
                continue
            except OSError as exc:
                log.debug("the session has ended: %s", exc)
                return False
            await self.take(view[:count])
        return True

    async def take_passed_on(self, requests: socket.socket) -> None:
        """Take what other processes pass on, until cancelled."""
        buffer = bytearray(4 * LISTING_BYTES)
        view = memoryview(buffer)
        while True:
            await trio.lowlevel.wait_readable(requests)
            for _ in range(AT_ONCE):
                try:
                    count = requests.recv_into(buffer, 0, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                if count:
                    await self.take(view[:count])

    async def take(self, request: memoryview) -> None:
        """Answer a request, or see that it is answered."""
        length, opcode, number, inode, *_ = wire.REQUEST.unpack_from(request)
        if length == 0:
            self._note_read(*wire.NOTE.unpack_from(request)[2:])
            return
        try:
            answer = self._answers.answer(opcode, number, inode, request)
        except Exception as exc:  # noqa: BLE001 - pyfuse3's handlers answer, and log what is wrong
            log.debug("request %d is left to pyfuse3: %s", opcode, exc)
            answer = None
        if answer is not None:
            if answer:
                write_answer(self._device, answer)
        elif opcode == Opcode.READ:
            _, offset, size = wire.READ_IN.unpack_from(request, wire.REQUEST.size)
            self._nursery.start_soon(self._read_later, number, inode, offset, size)
        else:
            await self._pass(request)

    async def _pass(self, request: memoryview) -> None:
        """Give a request to pyfuse3."""
        if wire.REQUEST.unpack_from(request)[1] == Opcode.READDIRPLUS:
            handle, position, room = wire.READ_IN.unpack_from(request, wire.REQUEST.size)
            # The answer has to fit into a message.
            wire.READ_IN.pack_into(request, wire.REQUEST.size, handle, position, min(room, LISTING_BYTES))
        while True:
            try:
                self._link.send(request)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._link)
            else:
                return

    async def _read_later(self, number: int, inode: int, offset: int, size: int) -> None:
        UNDER_WAY.count += 1
        try:
            data = await self._read(inode, offset, size)
            answer: tuple[bytes, ...] = (wire.ANSWER.pack(wire.ANSWER.size + len(data), 0, number), data)
        except trio.Cancelled:
            raise
        except BaseException as exc:  # noqa: BLE001 - any bug must become EIO, not the end of the mount
            if isinstance(exc, BaseExceptionGroup) and (cancelled := exc.subgroup(trio.Cancelled)) is not None:
                raise cancelled from None
            answer = (wire.ANSWER.pack(wire.ANSWER.size, -errno_to_answer("read", exc), number),)
        finally:
            UNDER_WAY.count -= 1
        write_answer(self._device, answer)

    # --- answers of pyfuse3 ----------------------------------------------------------------------------------

    async def _pass_answers(self) -> None:
        buffer = bytearray(4 * LISTING_BYTES)
        view = memoryview(buffer)
        while True:
            await trio.lowlevel.wait_readable(self._link)
            for _ in range(AT_ONCE):
                try:
                    count = self._link.recv_into(buffer)
                except BlockingIOError:
                    break
                if not count:
                    return
                write_answer(self._device, (view[:count],))  # type: ignore[arg-type]  # bytes, as writev takes them
