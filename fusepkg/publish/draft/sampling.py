"""Choosing some entries of many at random."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def choose(names: Sequence[str], amount: float, seed: int | None) -> set[str]:
    """So many of the names, or that part of them where ``amount`` has a point. Raises UsageError.

    The same seed and the same names in the same order give the same choice.
    """
    most = len(names) if isinstance(amount, int) else 1
    if isinstance(amount, bool) or not 0 < amount <= most:
        raise UsageError(
            f"{amount} of {len(names)} entries cannot be chosen", hint="Give a number of entries, or a part such as 0.1"
        )
    count = amount if isinstance(amount, int) else max(1, round(amount * len(names)))
    return set(random.Random(seed).sample(names, count))
