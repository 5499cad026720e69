"""User metadata as S3 headers can carry it: percent-encoded UTF-8 where it is not plain ASCII, as quilt3 reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN = re.compile(r"(?! )[ -$&-~]*(?<! )")
"""Values a header carries unchanged: printable ASCII without ``%``, no blanks at the ends."""

_SAFE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


def encode_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata as headers; plain values stay as they are."""
    return {
        name.lower(): value if _PLAIN.fullmatch(value) else quote(value, safe=_SAFE) for name, value in metadata.items()
    }


def decode_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """Metadata from headers."""
    return {name.lower(): unquote(value) for name, value in headers.items()}
