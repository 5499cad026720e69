"""Whether bytes still are what a manifest says: in a directory, or in the bucket."""
