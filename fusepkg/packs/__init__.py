"""Packs: many small blobs of a version in one object of the bucket, and the table that says which lie in which."""
