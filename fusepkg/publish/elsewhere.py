"""A registry must not lie in what is published into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import FolderUnfit
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.registry.manifests import names_local_files

if TYPE_CHECKING:
    from fusepkg.store.protocol import ObjectStore


def check_registry_is_elsewhere(store: ObjectStore, directory: Path) -> None:
    """Refuse a folder that holds the registry: it would be published into itself, twice as large each time.

    Raises: FolderUnfit.
    """
    if not names_local_files(store):
        return
    root = Path(parse_physical_key(store.url("any")).key).parent.resolve()
    if root.is_relative_to(directory.resolve()):
        raise FolderUnfit(f"The registry {root} lies in {directory}", hint="Publish a folder outside the registry")
