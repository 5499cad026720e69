"""A directory as an ObjectStore: the embedded registry, ``file://`` registries, and files that ``file://`` keys name.

Owns: objects as files below one directory, written so that no crash leaves half of one, and their names on the disk.
"""

from fusepkg.store.directory.store import STALE_S, DirectoryStore

__all__ = ["STALE_S", "DirectoryStore"]
