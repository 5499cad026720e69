"""A version being made. Owns: its names, where their bytes come from, metadata, and changing them all or nothing."""
