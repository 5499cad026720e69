"""Words of the package format as values; no I/O."""
