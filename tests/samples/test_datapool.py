"""The document about the datapool, from its first step to its last, in both registries; its numbers by brute force."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusepkg import Package
from fusepkg.opened.contexts import close_contexts
from fusepkg.pool import Pool, Selection
from fusepkg.pool.config import PoolConfig
from fusepkg.pool.datapool_csv import read_datapool
from fusepkg.pool.embedders import open_embedder
from fusepkg.pool.pictures import read_frames
from tests.command import Fusepkg
from tests.rgw import Gateway
from tests.videos import make_video

FIRST = ["campus4-c0.avi", "passageway1-c1.avi", "terrace1-c0.avi"]
THEN = ["campus7-c0.avi", "terrace1-c3.avi"]
MIN_DISTANCE = 0.2


@dataclass
class Bucket:
    """What the document calls the bucket; ``videos`` is a folder, from which they go to S3 if ``gateway`` is there."""

    videos: Path
    source: str
    registry: str
    gateway: Gateway | None = None

    def put(self, names: list[str]) -> None:
        for name in names:
            file = make_video(self.videos / name)
            if self.gateway is not None:
                self.gateway.s3.put_object(Bucket=self.registry, Key=f"videos/{name}", Body=file.read_bytes())


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def bucket(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Iterator[Bucket]:
    videos = tmp_path / "bucket" / "videos"
    if request.param == "local":
        yield Bucket(videos, f"{videos}/", "local")
    else:
        gateway: Gateway = request.getfixturevalue("s3")
        name = gateway.bucket()
        yield Bucket(videos, f"s3://{name}/videos/", name, gateway)
    close_contexts()


def embeddings_of(videos: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Every frame of these videos, as the built-in embedder sees it."""
    embedder = open_embedder(PoolConfig(source="", target="", selection=Selection()))
    found = {}
    for name in names:
        with (videos / name).open("rb") as file:
            for picture in read_frames(file):
                key = f"{name.removesuffix('.avi')}-{picture.frame:06}-avi.png"
                found[key] = embedder.vectors([embedder.prepare(picture.image)])[0]
    return found


def nearest(vector: np.ndarray, others: list[np.ndarray]) -> float:
    return min(float(np.linalg.norm(vector.astype(float) - other)) for other in others)


def frames_of(package: Package) -> list[str]:
    return [entry.logical_key for entry in package if not entry.logical_key.startswith("datapool/")]


def test_from_three_videos_to_five(bucket: Bucket, fusepkg: Fusepkg, tmp_path: Path) -> None:
    bucket.put(FIRST)
    street = f"{bucket.registry}/street"
    config = tmp_path / "pool.toml"
    config.write_text(f'source = "{bucket.source}"\ntarget = "{street}"\n[selection]\nmin_distance = {MIN_DISTANCE}\n')
    first = fusepkg("pool", "run", config).stdout
    assert "27 of 72 new ones chosen, 27 in all" in first
    before = Package(street)
    every = embeddings_of(bucket.videos, FIRST)
    names, vectors = read_datapool(before.get("datapool/datapool_latest.csv"), "the file")
    assert sorted(names) == frames_of(before)
    assert all(np.array_equal(every[name], vector) for name, vector in zip(names, vectors, strict=True))
    for number, vector in enumerate(vectors[1:], 1):
        assert nearest(vector, list(vectors[:number])) > MIN_DISTANCE
    assert all(nearest(vector, list(vectors)) <= MIN_DISTANCE for name, vector in every.items() if name not in names)

    # the same command again, without new data
    assert "nothing new; 27 pictures chosen so far" in fusepkg("pool", "run", config).stdout
    assert Package(street).hash == before.hash

    # two more videos, and the same command
    bucket.put(THEN)
    again = fusepkg("pool", "run", config, "-o", tmp_path / "report").stdout
    assert re.search(r"also latest-run-2: 14 of 48 new ones chosen, 41 in all", again)
    after = Package(street)
    changed = [key for key in before.diff(after).modified if not key.startswith("datapool/")]
    assert (changed, before.diff(after).removed) == ([], [])
    added = [key for key in before.diff(after).added if not key.startswith("datapool/")]
    assert len(added) == 14
    assert all(key.startswith(("campus7-c0-", "terrace1-c3-")) for key in added)
    more, all_vectors = read_datapool((tmp_path / "report" / "datapool_latest.csv").read_bytes(), "the file")
    assert more[:27] == names
    for number in range(27, 41):
        assert nearest(all_vectors[number], list(all_vectors[:number])) > MIN_DISTANCE
    new = embeddings_of(bucket.videos, THEN)
    assert all(nearest(vector, list(all_vectors)) <= MIN_DISTANCE for key, vector in new.items() if key not in more)

    # the new samples, in green among the grey, have a tag of their own; a frame is the video's
    drawn = np.asarray(Image.open(tmp_path / "report" / "embedding.png").convert("RGB")).reshape(-1, 3)
    assert (drawn == (44, 160, 44)).all(axis=1).any()
    assert (drawn == (166, 166, 166)).all(axis=1).any()
    assert Package(f"{street}:latest-run-1").hash == before.hash
    assert Package(f"{street}:latest-run-2").hash == after.hash
    entry = after.get_entry(added[0])
    assert entry.meta["datapool"]["identity"].startswith("etag:" if bucket.gateway else "sha2-256")
    shown = np.asarray(Image.open(io.BytesIO(entry.get_bytes())))
    with (bucket.videos / entry.meta["datapool"]["object"]).open("rb") as file:
        wanted = frozenset([entry.meta["datapool"]["frame"]])
        (frame,) = read_frames(file, wanted=wanted)
    assert np.array_equal(shown, np.asarray(frame.image))


def test_process_all_is_as_a_new_dataset(bucket: Bucket) -> None:
    selection = Selection(min_distance=MIN_DISTANCE)
    target, fresh = f"{bucket.registry}/street", f"{bucket.registry}/fresh"
    bucket.put(FIRST[:1])
    Pool(bucket.source, target, selection=selection).run()
    bucket.put(FIRST[1:2])
    Pool(bucket.source, target, selection=selection).run()
    anew = Pool(bucket.source, target, selection=selection, process_all=True).run()
    scratch = Pool(bucket.source, fresh, selection=selection).run()
    assert (anew.run, scratch.run) == (3, 1)
    assert anew.chosen == scratch.chosen
    assert frames_of(anew.package) == frames_of(scratch.package)
    assert Pool(bucket.source, target, selection=selection).run().objects == ()


def test_two_datasets_become_one(bucket: Bucket, tmp_path: Path) -> None:
    selection = Selection(min_distance=MIN_DISTANCE)
    bucket.put(FIRST[:1])
    make_video(tmp_path / "other" / "campus4-c0.avi", "another street")
    first = Pool(bucket.source, f"{bucket.registry}/one", selection=selection).run()
    second = Pool(tmp_path / "other", f"{bucket.registry}/two", selection=selection).run()
    both = [f"{bucket.registry}/one", f"{bucket.registry}/two"]
    combined = Pool(both, f"{bucket.registry}/both", selection=selection).run()
    assert combined.pictures == first.total + second.total
    assert len(combined.chosen) == combined.pictures  # all are farther than that from each other
    alike = [name for name in combined.chosen if "~" in name]
    assert len(alike) > 0  # frames of two videos of one name are told apart
    kept = {entry.hash for entry in combined.package if not entry.logical_key.startswith("datapool/")}
    ours = {entry.hash for run in (first, second) for entry in run.package if entry.logical_key.endswith(".png")}
    assert kept <= ours
