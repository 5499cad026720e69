"""A directory for bytes that were read to be hashed and will be wanted once more."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class Spool:
    """Gone when nobody has it any more, or the process ends."""

    def __init__(self) -> None:
        self._directory: Path | None = None

    def directory(self) -> Path:
        """Where it is."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="fusepkg-draft-"))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        return self._directory
