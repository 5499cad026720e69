"""What a Python program has open: contexts, versions, files of packages."""
