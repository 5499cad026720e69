"""What libfuse and the helper fusermount3 say while they mount: they write it to standard error."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_STANDARD_ERROR = 2

_MOST_BYTES = 8192
"""Of what they say; a reason is a line."""


@contextmanager
def keep_words(words: list[str]) -> Iterator[None]:
    """Put the lines that are written to standard error in the block into ``words``, and into the log."""
    caught = os.memfd_create("fusepkg-words")
    before = os.dup(_STANDARD_ERROR)
    os.dup2(caught, _STANDARD_ERROR)
    try:
        yield
    finally:
        os.dup2(before, _STANDARD_ERROR)
        os.close(before)
        text = os.pread(caught, _MOST_BYTES, 0).decode(errors="replace")
        os.close(caught)
        words += [line.strip() for line in text.splitlines() if line.strip()]
        for line in words:
            log.warning("while mounting: %s", line)
