"""A directory for bytes that were read to be hashed and will be wanted once more."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class TemporaryBlobs:
    """Such a directory, removed with this object or at the end of the process."""

    def __init__(self) -> None:
        self._directory: Path | None = None

    def directory(self) -> Path:
        """Return it; it is made when it is first asked for."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="fusepkg-draft-"))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        return self._directory
