"""One HTTP/1.1 connection: it sends a request and takes in the answer, one at a time.

Heads and chunks are parsed by httptools. A body whose length is known is received by the socket straight into the
bytes that are handed out.
"""

from __future__ import annotations

import asyncio
from array import array
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from fusepkg.store.s3.http.answer import Answer, Body, ExchangeFailure, Head

if TYPE_CHECKING:
    from fusepkg.store.s3.http.answer import Accept

OVERHEAD_BYTES = 64 * 1024
"""The most that heads, and what stands between the chunks of a body, may hold without a byte of body."""

KEPT_HEADERS = {
    name.encode(): name for name in ("content-length", "content-range", "transfer-encoding", "x-amz-version-id")
}
"""The headers that are kept: the others are not even decoded."""

SCRATCH_BYTES = 64 * 1024
"""Where heads and chunks are received, and small bodies with them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds: until a connection stands, of silence, and of one exchange as a whole."""

    connect_s: float
    silence_s: float
    exchange_s: float


class Connection(asyncio.BufferedProtocol):
    """A connection of the loop that runs; for its thread only. ``scratch`` may be shared by all of one loop."""

    _head: Head | None
    _body: Body | None
    _into: memoryview | None

    def __init__(self, limits: Limits, scratch: memoryview) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._scratch = scratch
        self._transport: asyncio.Transport
        self._closed = False
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None
        self._parser: HttpResponseParser | None = None
        # Of the exchange under way:
        self._waiter: asyncio.Future[Answer] | None = None
        self._accept: Accept
        self._tunnel = False
        self._deadline = self._heard_at = 0.0
        self._unsent = 0
        self._begin()

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent, as far as is known."""
        return not self._closed and not self._transport.is_closing()

    @property
    def transport(self) -> asyncio.Transport:
        """What TLS is to be put around, and ``secured`` replaces."""
        return self._transport

    def secured(self, transport: asyncio.Transport) -> None:
        """Go on over another transport, which is the one of before with TLS around it."""
        self._transport = transport

    def ask(self, head: bytes, body: bytes, accept: Accept, *, tunnel: bool = False) -> asyncio.Future[Answer]:
        """Send a request; the future gets the answer, a Failure, or what ``accept`` and its room raise.

        With ``tunnel`` a success ends with its head, and the connection then belongs to another protocol.
        """
        self._begin()
        self._waiter = self._loop.create_future()
        self._accept = accept
        self._tunnel = tunnel
        self._asked += 1
        self._heard_at = self._loop.time()
        self._deadline = self._heard_at + self._limits.exchange_s
        self._transport.write(head)
        if body:
            self._transport.write(body)
        if self._timer is None:  # one that runs comes early enough, and looks again
            self._timer = self._loop.call_at(min(self._heard_at + self._limits.silence_s, self._deadline), self._watch)
        return self._waiter

    def close(self) -> None:
        """Close at once; an exchange under way fails."""
        self._closed = True
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- what asyncio calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See BaseProtocol."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See BaseProtocol."""
        self._closed = True
        if self._waiter is None:
            return
        if self._head is not None and self._head.status >= 300:
            self._finish(partly=True)  # the status says enough
        else:
            self._fail(ExchangeFailure("broken", str(exc or ""), stale=self._asked > 1 and not self._heard))

    def get_buffer(self, sizehint: int) -> memoryview:
        """See BufferedProtocol."""
        return self._scratch if self._into is None else self._into

    def buffer_updated(self, nbytes: int) -> None:
        """See BufferedProtocol."""
        if self._waiter is None:  # nothing was asked
            self.close()
            return
        self._heard = True
        self._heard_at = self._loop.time()
        if self._into is not None:
            self._fill(self._into, nbytes)
        else:
            self._parse(nbytes)

    # --- what the parser calls -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note that an answer begins. Raises Failure for one after the last."""
        if self._complete:
            raise ExchangeFailure("garbage", "more than one answer")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Keep a header that somebody asks for; after the body it is of no interest."""
        if self._head is None and (key := KEPT_HEADERS.get(name.lower())):
            text = (value or b"").decode("latin-1").strip()
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Decide on the body. Raises what ``accept`` does, or Failure."""
        parser = cast("HttpResponseParser", self._parser)
        status = parser.get_status_code()
        if status < 200:
            self._headers.clear()  # such as 100 Continue: the answer is yet to come
            return
        coding = self._headers.get("transfer-encoding")
        if coding is not None and (coding.lower() != "chunked" or parser.get_http_version() == "1.0"):
            raise ExchangeFailure("garbage", f"a transfer encoding that was not asked for: {coding[:40]}")
        self._keep_alive = parser.should_keep_alive()
        length = self._headers.get("content-length")
        self._head = Head(status, self._headers)
        room = self._accept(self._head)
        self._cut = room.cut
        self._body = Body(room, None if length is None or coding else int(length))

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body. Raises what the room for it does."""
        self._overhead = 0
        if self._body is not None:
            self._body.take(data)

    def on_message_complete(self) -> None:
        """Note the end of an answer."""
        self._complete = self._head is not None

    # --- the exchange under way ------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._head = self._body = self._into = None
        self._heard = self._complete = self._keep_alive = self._cut = False
        self._overhead = 0

    def _parse(self, count: int) -> None:
        if self._parser is None:
            self._parser = HttpResponseParser(self)
        error: BaseException | None = None
        self._overhead += count
        try:
            self._parser.feed_data(self._scratch[:count])
        except HttpParserCallbackError as exc:
            error = exc.__context__ or exc
        except (HttpParserError, HttpParserUpgrade) as exc:
            error = ExchangeFailure("garbage", str(exc)[:200])
        if self._complete:
            self._finish(reusable=self._keep_alive and error is None)
        elif error is not None:
            self._fail(error)
        elif self._tunnel and self._head is not None and self._head.status < 300:
            self._parser = None
            self._finish(reusable=True)
        elif self._body is not None and self._cut and self._body.is_full:
            self._finish()
        elif self._overhead > OVERHEAD_BYTES:
            self._fail(ExchangeFailure("garbage", f"more than {OVERHEAD_BYTES} bytes that are no body"))
        elif self._body is not None:
            self._into = self._body.space()

    def _fill(self, into: memoryview, count: int) -> None:
        """Note that so many bytes of the body have arrived where they belong."""
        body = cast("Body", self._body)
        body.filled(count)
        rest = into[count:]
        into.release()
        if rest.nbytes:
            self._into = rest
            return
        self._into = None
        self._parser = None  # it has not seen these bytes, and waits for them
        self._finish(reusable=self._keep_alive and body.is_whole)

    def _finish(self, *, reusable: bool = False, partly: bool = False) -> None:
        head, body = cast("Head", self._head), cast("Body", self._body)
        if self._into is not None:
            self._into.release()
            self._into = None
        try:
            answer = Answer(head.status, head.headers, body.result(partly=partly))
        except Exception as exc:  # noqa: BLE001 - raised where the answer is waited for
            self._fail(exc)
            return
        waiter, self._waiter = self._waiter, None
        if not reusable or self._transport.get_write_buffer_size():
            self.close()
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _fail(self, error: BaseException) -> None:
        waiter, self._waiter = self._waiter, None
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _watch(self) -> None:
        """Fail an exchange that is silent, or takes too long; look again when it next could be."""
        self._timer = None
        if self._waiter is None:
            return
        now = self._loop.time()
        unsent = self._unsent_bytes()
        if unsent != self._unsent:  # what goes out is no silence
            self._unsent, self._heard_at = unsent, now
        due = min(self._heard_at + self._limits.silence_s, self._deadline)
        if due <= now:
            self._fail(ExchangeFailure("silence"))
        else:
            self._timer = self._loop.call_at(due, self._watch)

    def _unsent_bytes(self) -> int:
        """How much of what was written the other side has not acknowledged, as far as the system tells."""
        waiting = array("i", [0])
        with suppress(OSError, AttributeError):  # a transport without a socket
            ioctl(self._transport.get_extra_info("socket").fileno(), TIOCOUTQ, waiting)
        return self._transport.get_write_buffer_size() + waiting[0]
