"""A version as one file that the kernel mounts by itself: names and bytes, nothing of ours between reader and disk."""
