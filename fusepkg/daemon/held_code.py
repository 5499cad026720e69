"""Read modules now and run them when they are imported: from then on their files may be replaced or gone."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER, cache_from_source, find_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

_BYTECODE_HEADER = struct.Struct("<4sIII")
"""Magic number, flags, and the time and size of the source, both modulo 2^32."""

_SOURCE = ".py"
_SUFFIXES = (_SOURCE, *EXTENSION_SUFFIXES)
_INIT = f"__init__{_SOURCE}"


def hold(names: Sequence[str]) -> None:
    """Read these modules, and all below them, that are not imported yet. Those that are not installed are left out.

    Reading a module takes a tenth of the time of running it.
    """
    finder = _HeldCode()
    for name in names:
        for module in _found(name):
            finder.add(module)
    sys.meta_path.insert(0, finder)


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    path: str
    is_package: bool


def _found(name: str) -> Iterator[_Found]:
    """Yield a module and all below it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None or not spec.has_location:
        return
    directories = spec.submodule_search_locations
    yield _Found(name, spec.origin, directories is not None)
    for directory in directories or ():
        yield from _below(name, directory)


def _below(package: str, directory: str) -> Iterator[_Found]:
    try:
        entries = list(os.scandir(directory))
    except OSError:  # in a zip file, say
        return
    for entry in entries:
        name = f"{package}.{entry.name.partition('.')[0]}"
        if entry.name.endswith(_SUFFIXES):
            if entry.name != _INIT:
                yield _Found(name, entry.path, False)
        elif entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir():
            init = f"{entry.path}/{_INIT}"
            if os.path.exists(init):
                yield _Found(name, init, True)
                yield from _below(name, entry.path)


class _HeldCode:
    """A finder of modules whose code is in memory. Each is forgotten once it has been run."""

    def __init__(self) -> None:
        self._loaders: dict[str, tuple[_Found, _HeldSource | _HeldExtension]] = {}

    def add(self, found: _Found) -> None:
        """Read a module, unless it is imported already or cannot be read."""
        if found.name in sys.modules:
            return
        kind = _HeldSource if found.path.endswith(_SOURCE) else _HeldExtension
        try:
            self._loaders[found.name] = found, kind(found.name, found.path)
        except OSError:  # it may be a file that no import would look at
            return

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ANN401 - importlib's words
        """Return where a module's code is, or None if it is not held."""
        held = self._loaders.pop(fullname, None)
        if held is None:
            return None
        found, loader = held
        below = [str(Path(found.path).parent)] if found.is_package else None
        return spec_from_file_location(fullname, found.path, loader=loader, submodule_search_locations=below)


class _HeldSource(SourceFileLoader):
    """A module as its bytecode, or as its source where there is none that fits."""

    def __init__(self, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        state = os.stat(path)
        self._stats = {"mtime": state.st_mtime, "size": state.st_size}
        self._compiled_path = cache_from_source(path)
        self._compiled = _read(self._compiled_path)
        fits = _BYTECODE_HEADER.pack(MAGIC_NUMBER, 0, int(state.st_mtime) & 0xFFFFFFFF, state.st_size & 0xFFFFFFFF)
        self._source = None if self._compiled.startswith(fits) else Path(path).read_bytes()

    def path_stats(self, path: Any) -> Any:  # noqa: ANN401 - importlib's words
        """Return the facts of the source when it was read."""
        return self._stats

    def get_data(self, path: Any) -> bytes:  # noqa: ANN401 - importlib's words
        """Return what was read. Raises FileNotFoundError for bytecode that was not there."""
        if path == self._compiled_path:
            if not self._compiled:
                raise FileNotFoundError(path)
            return self._compiled
        if path == self.path and self._source is not None:
            return self._source
        return super().get_data(path)

    def set_data(self, path: Any, data: Any, *, _mode: int = 0o666) -> None:  # noqa: ANN401 - importlib's words
        """Write no bytecode: another version's source may lie there by now."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, and forget its code."""
        super().exec_module(module)
        self._compiled, self._source = b"", None


class _HeldExtension(ExtensionFileLoader):
    """A module in machine code, as its open file."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name, path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the file that was opened, under its name."""
        spec.origin = f"/proc/self/fd/{self._descriptor}"
        try:
            return super().create_module(spec)
        finally:
            spec.origin = self.path
            os.close(self._descriptor)


def _read(path: str) -> bytes:
    """Return a file's bytes, none if it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
