"""A finished job as a version: its outputs, and what is needed to run it again."""
