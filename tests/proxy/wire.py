"""HTTP/1.1 on sockets, as far as a proxy needs it: heads are kept as they came, bodies passed on by their framing."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE_BYTES = 256 * 1024
"""What is passed on at once: few calls, little memory per connection."""
MAX_HEAD_BYTES = 256 * 1024


class Broken(Exception):
    """The other side closed in the middle of a message, or does not speak HTTP."""


@dataclass(slots=True)
class Head:
    """First line and headers of a request or response."""

    first: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str | None:
        """The value of a header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def replace(self, name: str, value: str | None) -> Head:
        """A copy with one header set (at the end) or, with None, taken away."""
        kept = [(key, old) for key, old in self.headers if key.lower() != name.lower()]
        return Head(self.first, kept if value is None else [*kept, (name, value)])

    def encode(self) -> bytes:
        """As it goes over the wire."""
        lines = [self.first, *(f"{key}: {value}" for key, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @property
    def status(self) -> int:
        """Status of a response."""
        return int(self.first.split(" ", 2)[1])


def read_head(stream: BinaryIO) -> Head | None:
    """The next message's head; None where the other side closed between messages."""
    lines: list[str] = []
    size = 0
    while True:
        line = stream.readline(MAX_HEAD_BYTES)
        size += len(line)
        if not line and not lines:
            return None
        if not line.endswith(b"\n") or size > MAX_HEAD_BYTES:
            raise Broken("head cut short or too long")
        text = line.rstrip(b"\r\n").decode("latin-1")
        if text:
            lines.append(text)
        elif lines:
            break
    pairs = (line.partition(":") for line in lines[1:])
    return Head(lines[0], [(name, value.strip()) for name, _, value in pairs])


def body_pieces(stream: BinaryIO, head: Head, *, until_close: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """A message's body as (bytes as framed, payload in them), by its own framing.

    ``until_close``: a response without any framing ends with its connection.
    """
    if "chunked" in (head.get("transfer-encoding") or "").lower():
        yield from _chunks(stream)
        return
    length = head.get("content-length")
    if length is None and until_close:
        while piece := stream.read(PIECE_BYTES):
            yield piece, piece
        return
    left = int(length or 0)
    while left:
        piece = stream.read(min(left, PIECE_BYTES))
        if not piece:
            raise Broken(f"body cut short by {left} bytes")
        left -= len(piece)
        yield piece, piece


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while True:
        line = _line(stream)
        size = int(line.split(b";")[0], 16)
        if size == 0:
            trailer = line
            while True:  # trailers (checksums of uploads) up to an empty line
                more = _line(stream)
                trailer += more
                if more in (b"\r\n", b"\n"):
                    yield trailer, b""
                    return
        payload = stream.read(size)
        if len(payload) != size:
            raise Broken("chunk cut short")
        yield line + payload + _line(stream), payload


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(MAX_HEAD_BYTES)
    if not line.endswith(b"\n"):
        raise Broken("line cut short")
    return line


class Connection:
    """One connection to the server behind, opened anew when the server has closed it. ``opened`` hears of each."""

    def __init__(self, address: tuple[str, int], opened: Callable[[socket.socket], object]) -> None:
        self._address = address
        self._opened = opened
        self._open: tuple[socket.socket, BinaryIO] | None = None

    def send(self, data: bytes) -> None:
        """Pass bytes on; opens the connection where there is none."""
        self._ready()[0].sendall(data)

    @property
    def stream(self) -> BinaryIO:
        """What the server says."""
        return self._ready()[1]

    def begin(self) -> None:
        """Before a request: drop the connection if the server has closed it (nothing was asked, yet it is readable)."""
        if self._open is not None and select.select([self._open[0]], [], [], 0)[0]:
            self.close()

    def _ready(self) -> tuple[socket.socket, BinaryIO]:
        if self._open is None:
            connection = socket.create_connection(self._address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open = connection, connection.makefile("rb", PIECE_BYTES)
            self._opened(connection)
        return self._open

    def close(self) -> None:
        """Close it."""
        if self._open is not None:
            connection, stream = self._open
            stream.close()
            connection.close()
            self._open = None
