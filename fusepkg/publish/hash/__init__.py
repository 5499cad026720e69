"""Hashes of what a version holds. Owns: reading files and objects for it, and when a known hash stands for them."""
