"""Encoding a video again, so that every program counts its frames alike."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

from fusepkg.datasets.media import ONLY_THIS_FILE, last_words, program, read_video
from fusepkg.errors import DataUnfit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusepkg.datasets.media import Media

_CHECK_EVERY_S = 0.2

_ENCODING = (
    "-map", "0:v:0", "-map", "0:a:0?",
    "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2",  # this encoder takes even sizes only
    "-c:v", "libx264", "-preset", "medium", "-crf", "18", "-pix_fmt", "yuv420p",
    "-fps_mode", "cfr", "-bf", "0",  # a frame every so often, and none shown before one that comes earlier in the file
    "-c:a", "aac", "-movflags", "+faststart", "-use_editlist", "0", "-map_metadata", "-1",
)  # fmt: skip


def transcode(source: Path, target: Path, shown: str, media: Media, check: Callable[[], None] = lambda: None) -> Media:
    """Encode a video as H.264 in MP4 with a constant frame rate, and return what came of it.

    ``check`` is called every so often, and ends the encoding by raising. Raises DataUnfit, SystemFailure.
    """
    rate = ("-r", repr(media.frames_per_second)) if media.frames_per_second else ()
    words = [
        *_dies_with_us(), program("ffmpeg"), "-nostdin", "-v", "error", "-y", *ONLY_THIS_FILE,
        "-i", f"file:{source}", *_ENCODING, *rate, f"file:{target}",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
        try:
            while process.poll() is None:
                check()
                try:
                    process.wait(_CHECK_EVERY_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            said.seek(0)
            raise DataUnfit(f"{shown} could not be encoded again: {last_words(said.read(), source, shown)}")
    return read_video(target, f"what ffmpeg made of {shown}")


def _dies_with_us() -> list[str]:
    """Words before a command that the kernel ends when this process is killed; none where there is no setpriv."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []
