"""Data tracked in git: pointers to versions stand in the repository, the data beside them."""
