"""The bare local file system: what every other subject is compared with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.subjects.subject import Opened, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def local(source: Path) -> Subject:
    """The folder itself."""

    @contextmanager
    def give(_place: Path) -> Iterator[Opened]:
        yield Opened(source)

    return Subject("local", give)
