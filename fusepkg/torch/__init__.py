"""Packages in PyTorch: ``PackageDataset`` by index, ``PackageStream`` one after another, ``PackageLoader`` for both."""

from __future__ import annotations

from fusepkg.errors import MissingExtra

try:
    import torch  # noqa: F401 - said here, once
except ImportError as exc:
    raise MissingExtra("fusepkg.torch needs PyTorch", hint='pip install "fusepkg[torch]"') from exc

from fusepkg.torch.dataset import PackageDataset, PackageStream
from fusepkg.torch.loader import PackageLoader, PackageSampler

__all__ = ["PackageDataset", "PackageLoader", "PackageSampler", "PackageStream"]
