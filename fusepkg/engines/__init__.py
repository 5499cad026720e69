"""The kernel's side: the only importers of pyfuse3 and of mount system calls."""
