"""Access profiles: which bytes of a package a program read first, and when. Written as JSON lines, read with bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from fusepkg.errors import UnsupportedFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT = 1

MAX_READS = 200_000
"""First reads in a profile: recording ends there, and a profile that claims more is refused."""

MAX_PROFILE_BYTES = 64 * 1024**2
"""The largest profile that is written or read."""

MAX_LINE_BYTES = 16 * 1024
"""Of one read: a name has 1,024 bytes in a bucket, and escapes make at most six of each."""


_LAST_S = 2**33
"""Unix time beyond any that is written."""

_TOP_HASH = re.compile(r"[0-9a-f]{64}")


class ProfileHeader(msgspec.Struct, frozen=True):
    """The first line. ``top_hash`` is the version that was read, ``recorded_s`` Unix time, ``reads`` the lines after.

    ``is_cut`` says that the program went on reading after ``MAX_READS``.
    """

    fusepkg_profile: int
    top_hash: str
    recorded_s: float
    seconds: float
    reads: int
    is_cut: bool = False


class FirstRead(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that was read for the first time, ``at`` milliseconds after recording began.

    Of a large file, one of its chunks: the one in which byte ``offset`` lies.
    """

    at: int
    path: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class AccessProfile:
    """A profile as it was written: ``lines`` are decoded when they are used, for there may be many."""

    header: ProfileHeader
    lines: list[bytes]

    def reads(self) -> Iterator[FirstRead]:
        """Yield the reads, in the order in which they were made. Raises UnsupportedFormat at a line that is none."""
        for number, line in enumerate(self.lines, 2):
            yield _decoded(line, number)


def write_profile(header: ProfileHeader, reads: Iterable[FirstRead]) -> bytes:
    """Return a profile as it lies in the bucket."""
    return b"\n".join([msgspec.json.encode(header), *map(msgspec.json.encode, reads)]) + b"\n"


def read_profile(data: bytes) -> AccessProfile:
    """Read a profile. Raises UnsupportedFormat, with the line, for what is none, was cut off, or holds too much."""
    first, *lines = data.split(b"\n")
    try:
        header = msgspec.json.decode(first, type=ProfileHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise _refused(f"its first line is not a profile's: {exc}") from exc
    if header.fusepkg_profile != FORMAT:
        raise _refused(f"it is of format {header.fusepkg_profile}, and this fusepkg reads {FORMAT}")
    numbers = header.reads, header.recorded_s, header.seconds
    if min(numbers) < 0 or max(numbers) > _LAST_S or _TOP_HASH.fullmatch(header.top_hash) is None:
        raise _refused("its first line has a number or a hash that cannot be")
    if header.reads > MAX_READS or len(data) > MAX_PROFILE_BYTES:
        raise _refused(f"it claims {header.reads:,} reads in {len(data):,} bytes; {MAX_READS:,} is the most")
    if lines[-1:] != [b""] or len(lines) - 1 != header.reads:
        raise _refused(f"{header.reads:,} reads were written, and {max(0, len(lines) - 1):,} lines are there")
    return AccessProfile(header, lines[:-1])


def _decoded(line: bytes, number: int) -> FirstRead:
    if len(line) > MAX_LINE_BYTES:
        raise _refused(f"line {number} has {len(line):,} bytes; {MAX_LINE_BYTES:,} is the most")
    try:
        read = msgspec.json.decode(line, type=FirstRead)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise _refused(f"line {number}: {exc}") from exc
    if min(read.at, read.offset) < 0:
        raise _refused(f"line {number} has a number below 0")
    return read


def _refused(why: str) -> UnsupportedFormat:
    return UnsupportedFormat(f"the access profile cannot be used: {why}", hint="Record it again")
