"""Packages as ordinary directories: written once, brought up to date, compared, made to match."""
