"""Small real videos and pictures, always the same, made by FFmpeg's libraries."""

from __future__ import annotations

import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT, RATE = 64, 48, 8


def scene(seed: str, time: float) -> np.ndarray:
    """A street at some time: a sky, a ground, and a thing that moves; its colours are the seed's."""
    numbers = np.random.default_rng(zlib.crc32(seed.encode()))
    sky, ground, thing = numbers.integers(0, 256, (3, 3))
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    horizon = int(HEIGHT * (0.4 + 0.2 * numbers.random()))
    picture[:horizon] = sky
    picture[horizon:] = ground
    at = int((0.5 + 0.5 * np.sin(time * (1 + numbers.random()))) * (WIDTH - 20))
    picture[horizon - 8 : horizon + 10, at : at + 20] = (thing * (0.6 + 0.4 * np.cos(time))).astype(np.uint8)
    return picture


def make_video(path: Path, seed: str | None = None, *, frames: int = 24, codec: str = "mpeg4") -> Path:
    """A video of so many frames, 8 a second; the end of its name says the container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        container.start_encoding()
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(seed or path.stem, number / RATE), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_picture(path: Path, seed: str | None = None, time: float = 0.0) -> Path:
    """A picture, of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(seed or path.stem, time)).save(path)
    return path
