"""Epochs of a PyTorch ``DataLoader``, in a process of its own: ``python -m bench.epochs WHAT WHERE COUNT EPOCHS``.

WHAT is ``decoded`` (pictures become tensors of 224 x 224, as for training) or ``bytes`` (they are only read). WHERE is
a directory, or a reference, which is read without a mount. Prints the samples per second of each epoch as JSON; imports
and the listing of names are not counted, the start of workers is.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bench.workload import expect
from fusepkg.torch import PackageDataset, PackageLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WORKERS, BATCH = 4, 64
SIDE = 224


class Folder(Dataset):
    """The pictures below a directory, as any program reads them."""

    def __init__(self, root: Path, load: Callable[[bytes], Any]) -> None:
        self.paths = sorted(root.rglob("*.jpg"))
        self.load = load

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - whatever ``load`` makes
        return self.load(self.paths[index].read_bytes())


def decoded(data: bytes) -> torch.Tensor:
    """Give the pixels of a picture, cut and scaled."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.array(picture.convert("RGB").resize((SIDE, SIDE)))
    return torch.from_numpy(pixels).permute(2, 0, 1)


KINDS: dict[str, Callable[[bytes], Any]] = {"decoded": decoded, "bytes": len}


def open_loader(what: str, where: str) -> Iterable[Any]:
    """Give the loader over a directory or a package, shuffled."""
    load = KINDS[what]
    if Path(where).is_dir():
        return DataLoader(Folder(Path(where), load), batch_size=BATCH, shuffle=True, num_workers=WORKERS)
    dataset = PackageDataset(where, load=lambda _entry, data: load(data))
    return PackageLoader(dataset, BATCH, shuffle=True, num_workers=WORKERS)


def main(what: str, where: str, count: str, epochs: str) -> None:
    """Go through some epochs, and say how fast each was. Raises WrongBytes where samples are missing."""
    loader = open_loader(what, where)
    rates = []
    for _ in range(int(epochs)):
        start = time.monotonic()
        found = sum(len(batch) for batch in loader)
        rates.append(expect(found, int(count), "samples") / (time.monotonic() - start))
    sys.stdout.write(json.dumps(rates) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
