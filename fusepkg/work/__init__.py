"""Foundations that know nothing of packages: threads, progress, scratch directories, directory walks."""
