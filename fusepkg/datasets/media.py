"""What a file of a dataset is: the size and kind of a picture, the frames of a video. Read here, believed nowhere else.

Videos are read by ffprobe, which comes with the ffmpeg that encodes them again: one program knows all there is, and a
file that crashes it ends a process of its own. Pictures are read by Pillow, of which only the header is decoded.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from fusepkg.errors import DataUnfit, MissingExtra, SystemFailure

if TYPE_CHECKING:
    from pathlib import Path

try:
    from PIL import Image, UnidentifiedImageError
except ImportError as exc:
    raise MissingExtra("datasets need Pillow", hint='pip install "fusepkg[datasets]"') from exc

PROBE_TIMEOUT_S = 300.0
"""How long ffprobe may look at one file."""

_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,ogg,flv,asf,mxf,gif,ivf"
"""Formats that are read: none that can name another file or address, as playlists do."""

ONLY_THIS_FILE = ("-protocol_whitelist", "file", "-format_whitelist", _DEMUXERS)
"""Options of ffmpeg and ffprobe before a file that a stranger may have made."""

_WANTED = (
    "stream=codec_name,width,height,avg_frame_rate,r_frame_rate,nb_read_packets,duration:format=duration,format_name"
)

_VIDEO_TYPES = {
    "mov": "video/mp4", "matroska": "video/x-matroska", "webm": "video/webm", "avi": "video/x-msvideo",
    "mpegts": "video/mp2t", "mpeg": "video/mpeg", "ogg": "video/ogg", "flv": "video/x-flv", "asf": "video/x-ms-asf",
    "mxf": "application/mxf", "gif": "image/gif",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Media:
    """Facts of a file. ``file_type`` is its MIME type; ``duration`` in seconds; the last three are of videos only."""

    file_type: str
    width: int
    height: int
    frames_per_second: float | None = None
    frames: int | None = None
    duration: float | None = None
    codec: str | None = None


def read_picture(path: Path, shown: str) -> Media:
    """Return what a picture is; ``shown`` names it in errors. Raises DataUnfit."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture of 100 million pixels is no attack: none is decoded
            with Image.open(path) as picture:
                return Media(Image.MIME.get(picture.format or "", "application/octet-stream"), *picture.size)
    except UnidentifiedImageError as exc:
        raise DataUnfit(f"{shown} is no picture that Pillow knows", hint="Add videos with upload_video") from exc
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise DataUnfit(f"{shown} cannot be read as a picture: {_said(exc)}") from exc


def read_video(path: Path, shown: str) -> Media:
    """Return what a video is, from its container and its packets: nothing is decoded.

    Raises DataUnfit for a file without a frame, SystemFailure where there is no ffprobe.
    """
    found = _ffprobe(path, shown, ["-count_packets", "-select_streams", "v:0", "-show_entries", _WANTED])
    stream: dict[str, Any] = next(iter(found.get("streams", [])), {})
    width, height = stream.get("width", 0), stream.get("height", 0)
    frames = int(stream.get("nb_read_packets") or 0)
    if not (width and height and frames):
        raise DataUnfit(f"{shown} holds no frame of a video", hint="Look at it with: ffprobe")
    rate = _rate(stream.get("avg_frame_rate")) or _rate(stream.get("r_frame_rate"))
    duration = _number(stream.get("duration")) or _number(found.get("format", {}).get("duration"))
    name = str(found.get("format", {}).get("format_name", "")).split(",")
    if "webm" in name and path.suffix.lower() == ".webm":
        name = ["webm"]
    return Media(
        _VIDEO_TYPES.get(name[0], "application/octet-stream"),
        width,
        height,
        round(float(rate), 6) if rate else None,
        frames,
        round(duration or (float(frames / rate) if rate else 0.0), 6),
        stream.get("codec_name"),
    )


def program(name: str) -> str:
    """Return the path of ffmpeg or ffprobe. Raises SystemFailure where it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise SystemFailure(f"{name} is not installed, which reads and writes videos", hint="apt-get install ffmpeg")
    return found


def _ffprobe(path: Path, shown: str, options: list[str]) -> dict[str, Any]:
    words = [program("ffprobe"), "-v", "error", "-of", "json", *ONLY_THIS_FILE, *options, f"file:{path}"]
    try:
        done = subprocess.run(
            words, capture_output=True, stdin=subprocess.DEVNULL, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise DataUnfit(f"{shown} cannot be read as a video: ffprobe took more than {PROBE_TIMEOUT_S:g} s") from exc
    if done.returncode != 0:
        raise DataUnfit(f"{shown} cannot be read as a video: {last_words(done.stderr, path, shown)}")
    answer = json.loads(done.stdout or b"{}")
    return answer if isinstance(answer, dict) else {}


def last_words(said: bytes, path: Path, shown: str) -> str:
    """Return the last line that ffmpeg wrote, with the name that the user knows in place of the file's own."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it says nothing"
    return last.replace(f"file:{path}", shown).replace(os.fspath(path), shown)[:400]


def _rate(text: object) -> Fraction | None:
    try:
        rate = Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        return None
    return rate if rate > 0 else None


def _number(text: object) -> float | None:
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
