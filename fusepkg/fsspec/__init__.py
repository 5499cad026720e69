"""Packages for programs that read through fsspec: ``fusepkg://bucket/name:tag/path``."""
