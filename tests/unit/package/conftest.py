from __future__ import annotations

from tests.unit.registry.conftest import store

__all__ = ["store"]
