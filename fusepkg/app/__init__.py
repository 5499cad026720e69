"""Settings, and what a process opens from them: stores, the cache, hints, sources of bytes, packages."""
