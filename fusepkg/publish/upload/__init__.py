"""Bringing data into a bucket. Owns: the keys of objects, what is there already, uploads and copies."""
