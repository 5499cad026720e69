"""What only those who run datapools need, and the one message where some of it is missing."""

from __future__ import annotations

from fusepkg.errors import MissingExtra

try:
    import av
    import matplotlib
    import numpy as np
    from PIL import Image
except ImportError as exc:
    raise MissingExtra(
        f"datapools need PyAV, Pillow, NumPy and matplotlib ({exc.name} is missing)",
        hint='pip install "fusepkg[pool]"',
    ) from exc

__all__ = ["Image", "av", "matplotlib", "np"]
