"""The local, memory-mapped form of a manifest: an EROFS image and an entry table."""
