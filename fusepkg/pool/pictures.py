"""Pictures and frames, one at a time, and what is measured of each."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from PIL import ImageOps, UnidentifiedImageError

from fusepkg.errors import FusepkgError
from fusepkg.pool.libraries import Image, av, np

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PICTURE_BYTES = 512 << 20
"""A file larger than this is no picture that anybody wants decoded."""

_MEASURED_SIDE = 256
"""Pixels: pictures are measured at this size, so that sharpness means the same whatever the resolution."""


class Broken(Exception):
    """An object is not what its name says: its message goes into the report."""


@dataclass(frozen=True, slots=True)
class Picture:
    """``frame`` (from 0) and ``time_s`` are those of a video, None of a picture by itself."""

    image: Image.Image
    frame: int | None = None
    time_s: float | None = None


def read_picture(file: IO[bytes]) -> Picture:
    """Decode a picture, turned the way it is to be seen. Raises Broken."""
    data = file.read(MAX_PICTURE_BYTES + 1)
    if not data:
        raise Broken("it is empty")
    if len(data) > MAX_PICTURE_BYTES:
        raise Broken(f"it has more than {MAX_PICTURE_BYTES >> 20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd about a file that can be read all the same
            with Image.open(io.BytesIO(data)) as opened:
                turned = ImageOps.exif_transpose(opened).convert("RGB")
        return Picture(turned)
    except UnidentifiedImageError as exc:
        raise Broken("it is no picture of a known kind") from exc
    except Image.DecompressionBombError as exc:
        raise Broken(str(exc)) from exc
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, KeyError, IndexError, TypeError) as exc:
        raise Broken(f"the picture is damaged: {exc}") from exc  # Pillow's readers raise what damage makes them raise


def read_frames(
    file: IO[bytes], *, rate: float | None = None, wanted: frozenset[int] | None = None
) -> Iterator[Picture]:
    """Decode a video frame by frame, and give all, or ``rate`` a second; or those whose numbers are ``wanted``.

    Raises Broken, also after some frames; what reading the file raises.
    """
    given = 0
    last = max(wanted, default=-1) if wanted is not None else None
    try:
        with av.open(file, mode="r", buffer_size=1 << 20) as container:
            if not container.streams.video:
                raise Broken("it has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            fallback = float(stream.average_rate or 25)
            start: float | None = None
            for number, frame in enumerate(container.decode(stream)):
                time_s = number / fallback if frame.time is None else float(frame.time)
                start = time_s if start is None else start
                elapsed = time_s - start
                if wanted is None:
                    is_given = rate is None or elapsed * rate >= given - 1e-6
                else:
                    is_given = number in wanted
                if is_given:
                    given += 1
                    yield Picture(Image.fromarray(frame.to_ndarray(format="rgb24")), number, round(elapsed, 6))
                if last is not None and number >= last:
                    break
    except av.error.EOFError as exc:
        raise Broken("it has no frames") from exc
    except (av.error.FFmpegError, ValueError) as exc:
        if isinstance(exc, FusepkgError):
            raise
        raise Broken(f"the video cannot be decoded: {getattr(exc, 'strerror', None) or exc}") from exc
    if not given and wanted is None:
        raise Broken("it has no frames")


def measure(image: Image.Image) -> dict[str, Any]:
    """Return what thresholds may ask of every picture.

    ``sharpness`` is the variance of the Laplacian at 256 pixels, ``luminance`` the mean brightness and ``contrast`` its
    standard deviation, from 0 to 255; ``width`` and ``height`` in pixels.
    """
    small = image.convert("L")
    small.thumbnail((_MEASURED_SIDE, _MEASURED_SIDE))
    grey = np.asarray(small, np.float64)
    padded = np.pad(grey, 1, mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return {
        "width": image.width,
        "height": image.height,
        "sharpness": round(float((around - 4 * grey).var()), 3),
        "luminance": round(float(grey.mean()), 3),
        "contrast": round(float(grey.std()), 3),
    }
