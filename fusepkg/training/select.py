"""Which entries of a package are samples."""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING

from fusepkg.api.contents import directory_range
from fusepkg.api.entry import PackageEntry
from fusepkg.api.package import Package
from fusepkg.errors import UsageError
from fusepkg.index.entries import RECORD_BYTES
from fusepkg.model.entry import EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable

_FILES = frozenset((EntryKind.FILE, EntryKind.EXECUTABLE))
_BATCH = 1 << 16


class Samples:
    """Entries of a package by number: those below ``prefix`` for which ``keep`` says yes, in tree order.

    ``where`` is an expression as ``Package.filter`` takes it. Symbolic links and marks of empty directories are no
    samples. Pickles with the package's name and hash. Raises UsageError where nothing is left, and as opening does.
    """

    def __init__(
        self,
        package: Package | str,
        *,
        prefix: str = "",
        where: str = "",
        keep: Callable[[PackageEntry], bool] | None = None,
    ) -> None:
        opened = Package(package) if isinstance(package, str) else package
        self.package: Package = opened.filter(where=where) if where else opened
        entries = self.package.index.entries
        kinds = b"".join(records[RECORD_BYTES - 1 :: RECORD_BYTES] for records, _ in entries.packed(_BATCH))
        directory = prefix[: prefix.rfind("/") + 1]
        self._numbers = array("Q", (at for at in directory_range(entries, directory) if kinds[at] in _FILES))
        if prefix != directory:
            self._numbers = array("Q", (at for at in self._numbers if entries.logical_key(at).startswith(prefix)))
        if keep is not None:
            self._numbers = array("Q", (at for at in self._numbers if keep(self._entry(at))))
        if not self._numbers:
            raise UsageError(f"{self.package.name} has no such sample", hint="Look at prefix, where and keep")

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def identity(self) -> dict[str, str]:
        """The version, and which of its entries: what a state must agree in."""
        chosen = hashlib.sha256(self._numbers.tobytes()).hexdigest()
        return {"package": self.package.hash, "selection": chosen[:16]}

    def entry(self, sample: int) -> PackageEntry:
        """Return the entry of a sample."""
        return self._entry(self._numbers[sample])

    def _entry(self, number: int) -> PackageEntry:
        return PackageEntry(self.package, number, self.package.index.entries.logical_key(number))
