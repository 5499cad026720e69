"""Verified bytes of entries: ``source`` for mounts and programs, through the cache; ``direct`` for installs."""
