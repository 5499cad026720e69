"""Ways in which S3 fails: what a rule of the proxy's fault plan does to a request. Values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

_ERROR_BODY = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message>'
    "<RequestId>spoiled</RequestId></Error>"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with an error; the request never reaches S3."""

    status: int
    code: str
    message: str = "the fault plan says so"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """The error as S3 writes it."""
        return _ERROR_BODY.format(code=self.code, message=self.message).encode()


SLOW_DOWN = Answer(503, "SlowDown", "Please reduce your request rate.")
INTERNAL_ERROR = Answer(500, "InternalError", "We encountered an internal error. Please try again.")
ACCESS_DENIED = Answer(403, "AccessDenied", "Access Denied")
EXPIRED_TOKEN = Answer(400, "ExpiredToken", "The provided token has expired.")
NO_SUCH_KEY = Answer(404, "NoSuchKey", "The specified key does not exist.")
NO_SUCH_VERSION = Answer(404, "NoSuchVersion", "The specified version does not exist.")
NO_SUCH_BUCKET = Answer(404, "NoSuchBucket", "The specified bucket does not exist")


@dataclass(frozen=True, slots=True)
class Truncate:
    """End the body after ``keep`` bytes (half of it unless told).

    The connection breaks off below the promised Content-Length; with ``honest=False`` the header is changed too, so
    that HTTP sees a complete answer.
    """

    keep: int | None = None
    honest: bool = True


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Flip all bits of one body byte: ``at`` (the middle one unless told); lengths and headers stay."""

    at: int | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection: before any answer, or ``after`` so many bytes of the body.

    ``reached=True`` lets S3 do the work first: the writer who cannot know whether the write happened.
    """

    after: int | None = None
    reached: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing more until ``proxy.release()``, then go on as if nothing had been.

    From ``after`` bytes of the body on or, without it, before the request goes on to S3.
    """

    after: int | None = None


@dataclass(frozen=True, slots=True)
class Drip:
    """Send the body in pieces with a pause after each."""

    piece_bytes: int = 1024
    pause_s: float = 0.01


@dataclass(frozen=True, slots=True)
class WholeObject:
    """Answer a range with status 200 and the whole object, as servers without ranges do."""


@dataclass(frozen=True, slots=True)
class ShiftRange:
    """Answer 206 with a range of the right length that starts ``by`` bytes later (or, negative, earlier).

    ``confess=False`` keeps the Content-Range that was asked for, so that only the bytes are wrong.
    """

    by: int = 1
    confess: bool = True


Fault: TypeAlias = Answer | Truncate | Corrupt | Reset | Stall | Drip | WholeObject | ShiftRange
