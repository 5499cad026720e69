"""A package as a file system, without a kernel."""
