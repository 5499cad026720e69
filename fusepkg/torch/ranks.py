"""Which of the processes that train together this one is."""

from __future__ import annotations

from torch import distributed


def rank_and_world() -> tuple[int, int]:
    """Return the rank and the number of ranks, 0 of 1 where ``torch.distributed`` is not set up."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
