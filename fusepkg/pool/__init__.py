"""Datapools: datasets that grow by what is new in a bucket, and unlike what they hold already.

Owns: which objects were looked at, their embeddings, the choice, and the package that holds what was chosen.
"""

from __future__ import annotations

from fusepkg.pool.config import OnnxInput as OnnxInput
from fusepkg.pool.config import Selection as Selection
from fusepkg.pool.pool import Pool as Pool

__all__ = ["OnnxInput", "Pool", "Selection"]
