"""SQL over the entries of a package and the tables in it."""
