"""Does a package fit a task? Names, pairs, headers and metadata against a specification, without reading the data."""
