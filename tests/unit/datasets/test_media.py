"""Pictures, videos and DICOM files: what is read of them, and which are refused, by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fusepkg.datasets import media
from fusepkg.datasets.candidates import ListedObject, stored_file
from fusepkg.datasets.dicom import read_dicom
from fusepkg.datasets.media import Media, read_picture, read_video
from fusepkg.datasets.rows import DataType
from fusepkg.datasets.transcode import transcode
from fusepkg.errors import DataUnfit, FileChanged, SystemFailure, TaskStopped
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.store.memory import MemoryStore
from tests.samples.media import dicom, picture, video

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video(tmp_path_factory.mktemp("film") / "film.mp4", frames=12)


def test_videos(film: Path, tmp_path: Path) -> None:
    assert read_video(film, "it") == Media("video/mp4", 64, 48, 5.0, 12, 2.4, "mpeg4")
    one = read_video(video(tmp_path / "one.mkv", frames=1), "it")
    assert (one.file_type, one.frames) == ("video/x-matroska", 1)


def test_what_is_no_video(film: Path, tmp_path: Path) -> None:
    def refused(content: bytes, name: str = "a.mp4") -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataUnfit, match="the film") as raised:
            read_video(tmp_path / name, "the film")
        assert str(tmp_path) not in raised.value.message
        return raised.value.message

    refused(b"")
    refused(b"no video")
    data = film.read_bytes()
    moov = data.index(b"moov")
    refused(data[: moov - 4])  # without its index
    refused(data[:moov] + b"\0" * (len(data) - moov))  # with a broken one
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(data)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n"
    refused(playlist.encode())  # a list of other files
    refused(f"ffconcat version 1.0\nfile {secret.name}\n".encode())


def test_encoding_again(film: Path, tmp_path: Path) -> None:
    odd = video(tmp_path / "odd.avi", frames=7, size="63x47")
    done = transcode(odd, tmp_path / "out.mp4", "odd.avi", read_video(odd, "odd.avi"))
    assert done == Media("video/mp4", 64, 48, 5.0, 7, 1.4, "h264")

    def stop() -> None:
        raise TaskStopped("cancelled")

    with pytest.raises(TaskStopped):
        transcode(film, tmp_path / "stopped.mp4", "film", read_video(film, "film"), stop)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(DataUnfit, match=r"broken\.mp4 could not be encoded again"):
        transcode(tmp_path / "broken.mp4", tmp_path / "x.mp4", "broken.mp4", read_video(film, "film"))


def test_without_ffmpeg(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemFailure) as raised:
        read_video(film, "it")
    assert raised.value.hint == "apt-get install ffmpeg"


def test_pictures(tmp_path: Path) -> None:
    assert read_picture(picture(tmp_path / "a.png", 5, 7), "it") == Media("image/png", 5, 7)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    (tmp_path / "c.png").write_bytes(b"no picture")
    for name in ("b.png", "c.png"):
        with pytest.raises(DataUnfit, match="the picture"):
            read_picture(tmp_path / name, "the picture")


def test_dicom_files(tmp_path: Path) -> None:
    found = read_dicom(dicom(tmp_path / "a.dcm", "1.2.3", 7), "it")
    assert (found.series, found.study, found.modality, found.number) == ("1.2.3", "1.2.3", "CT", 7)
    assert found.media == Media("application/dicom", 6, 4, frames=1)
    (tmp_path / "b.dcm").write_bytes(b"no DICOM")
    with pytest.raises(DataUnfit, match="the slice is not a DICOM file"):
        read_dicom(tmp_path / "b.dcm", "the slice")
    with pytest.raises(DataUnfit, match="does not say which series"):
        read_dicom(dicom(tmp_path / "c.dcm", "", 1), "the slice")


def test_a_program_that_hangs(film: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = tmp_path / "ffprobe"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(media, "program", lambda _name: str(slow))
    monkeypatch.setattr(media, "PROBE_TIMEOUT_S", 0.1)
    with pytest.raises(DataUnfit, match=r"took more than 0\.1 s"):
        read_video(film, "it")


class EndlessStore(MemoryStore):
    """Its objects go on for ever when they are streamed."""

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        while True:
            yield b"x" * piece_bytes


def test_an_object_is_read_up_to_its_size() -> None:
    stores = SimpleNamespace(for_key=lambda place: (EndlessStore(), place.key))
    found = ListedObject(PhysicalKey("s3", "bucket", "a.mp4"), (8 << 20) + 1, None)
    with pytest.raises(FileChanged, match="changed while it was read"):
        stored_file(SimpleNamespace(stores=stores), found, DataType.VIDEO, "a")
