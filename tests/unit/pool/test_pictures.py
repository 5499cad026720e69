"""Pictures and videos as they come: damaged, empty, of one frame."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fusepkg.pool.pictures import Broken, Picture, measure, read_frames, read_picture
from tests.videos import RATE, make_picture, make_video, scene


def frames(data: bytes, **how: object) -> list[Picture]:
    return list(read_frames(io.BytesIO(data), **how))


def test_every_frame_or_so_many_a_second(tmp_path: Path) -> None:
    data = make_video(tmp_path / "a.mp4").read_bytes()
    every = frames(data)
    assert [one.frame for one in every] == list(range(24))
    assert [one.time_s for one in every] == [number / RATE for number in range(24)]
    assert np.abs(np.asarray(every[5].image, int) - scene("a", 5 / RATE)).mean() < 20
    assert [one.frame for one in frames(data, rate=2)] == [0, 4, 8, 12, 16, 20]
    assert [one.frame for one in frames(data, rate=1000)] == list(range(24))
    assert [one.frame for one in frames(data, wanted=frozenset([3, 17]))] == [3, 17]
    assert np.array_equal(frames(data, wanted=frozenset([17]))[0].image, every[17].image)


@pytest.mark.parametrize("end", ["avi", "mkv", "mov"])
def test_a_video_of_one_frame(tmp_path: Path, end: str) -> None:
    made = make_video(tmp_path / f"one.{end}", frames=1)
    assert [(one.frame, one.time_s) for one in frames(made.read_bytes())] == [(0, 0.0)]


def test_a_video_without_frames(tmp_path: Path) -> None:
    for end in ("avi", "mkv", "mp4"):
        with pytest.raises(Broken, match=r"no frames|no video stream"):
            frames(make_video(tmp_path / f"none.{end}", frames=0).read_bytes())
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(Broken, match="no video stream"):
        frames((tmp_path / "sound.mkv").read_bytes())


def test_a_broken_index(tmp_path: Path) -> None:
    """That of an .avi only helps to seek; an .mp4 cannot be read without."""
    avi = make_video(tmp_path / "a.avi").read_bytes()
    at = avi.index(b"idx1")
    assert len(frames(avi[:at] + b"idx1" + b"\xff" * (len(avi) - at - 4))) == 24
    assert len(frames(avi[:at])) == 24
    mp4 = make_video(tmp_path / "a.mp4").read_bytes()
    for damaged in (mp4.replace(b"moov", b"junk"), mp4[: mp4.index(b"moov") - 4], b"", b"no video at all" * 100):
        with pytest.raises(Broken, match="cannot be decoded"):
            frames(damaged)


def test_a_decoder_that_stops_in_the_middle(tmp_path: Path) -> None:
    """Whatever is cut off or overwritten, the answer is frames or Broken."""
    avi = make_video(tmp_path / "a.avi").read_bytes()
    numbers = np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(avi)
        at = int(numbers.integers(0, len(avi) - 64))
        damaged[at : at + 64] = numbers.bytes(64)
        with suppress(Broken):
            assert all(one.image.mode == "RGB" for one in frames(bytes(damaged)))


def test_an_error_of_the_file_is_not_the_videos(tmp_path: Path) -> None:
    class Failing(io.BytesIO):
        def read(self, *_size: object) -> bytes:
            raise ConnectionResetError("the disk is gone")

    with pytest.raises(ConnectionResetError):
        list(read_frames(Failing(make_video(tmp_path / "a.avi").read_bytes())))


@pytest.mark.parametrize("end", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_pictures(tmp_path: Path, end: str) -> None:
    with make_picture(tmp_path / f"a.{end}").open("rb") as file:
        picture = read_picture(file)
    assert (picture.image.mode, picture.image.size, picture.frame) == ("RGB", (64, 48), None)


def test_a_picture_is_turned_as_it_is_seen() -> None:
    image, saved = Image.new("RGB", (4, 2)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(saved, "jpeg", exif=exif)
    saved.seek(0)
    assert read_picture(saved).image.size == (2, 4)


@pytest.mark.parametrize("end", ["jpg", "png", "gif", "tif"])
def test_damaged_pictures_are_pictures_or_broken(tmp_path: Path, end: str) -> None:
    good = make_picture(tmp_path / f"a.{end}").read_bytes()
    numbers = np.random.default_rng(1)
    for number in range(60):
        damaged = bytearray(good[: numbers.integers(0, len(good))] if number % 2 else good)
        for at in numbers.integers(0, len(damaged), 8) if damaged else ():
            damaged[at] = numbers.integers(0, 256)
        with suppress(Broken):
            assert read_picture(io.BytesIO(damaged)).image.mode == "RGB"


def test_a_picture_of_too_many_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Broken, match="decompression bomb"), make_picture(tmp_path / "a.png").open("rb") as file:
        read_picture(file)


def test_measures() -> None:
    flat = measure(Image.new("RGB", (40, 30), (100, 100, 100)))
    assert flat == {"width": 40, "height": 30, "sharpness": 0.0, "luminance": 100.0, "contrast": 0.0}
    stripes = np.zeros((30, 40, 3), np.uint8)
    stripes[:, ::2] = 255
    assert measure(Image.fromarray(stripes))["sharpness"] > 10_000
