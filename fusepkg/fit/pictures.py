"""What the header of a picture says."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError, MissingExtra

try:
    from PIL import Image, ImageMode
except ImportError as exc:
    raise MissingExtra("looking at pictures needs Pillow", hint='pip install "fusepkg[check]"') from exc

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """Format and mode as Pillow names them (``JPEG``, ``RGB``); ``width`` and ``height`` are pixels."""

    format: str
    mode: str
    width: int
    height: int

    @property
    def channels(self) -> int:
        """How many values a pixel has."""
        return len(ImageMode.getmode(self.mode).bands)


def look_at_picture(head: bytes, open_all: Callable[[], BinaryIO]) -> PictureHeader | None:
    """Return what a header says; None for what is no picture. ``open_all`` is asked where the head does not do.

    Raises RemoteError, IntegrityError.
    """
    return _look(io.BytesIO(head)) or _look(open_all())


def _look(file: BinaryIO) -> PictureHeader | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a picture may be large: nothing of it is decoded
        try:
            with Image.open(file) as image:
                return PictureHeader(image.format or "", image.mode, image.width, image.height)
        except FusepkgError:
            raise
        except Exception:  # noqa: BLE001 - a broken header raises anything
            return None
