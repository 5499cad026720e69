"""Entries of a package as samples, in an order that is the same everywhere: for any framework."""

from __future__ import annotations

from fusepkg.training.stream import SampleStream

__all__ = ["SampleStream"]
