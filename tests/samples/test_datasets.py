"""Datasets and data rows, in the order in which the SDK's document has them; ``local`` and S3.

Where a step is not the document's, docs/reference/use-cases.md says why.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fusepkg import Package
from fusepkg.datasets import Dataset, DatasetClient, DataType, ReEncodeVideoTask, StorageLocation
from fusepkg.datasets.media import read_video
from fusepkg.errors import AccessDenied, DataUnfit, TaskNotFound, UsageError
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.opened.contexts import close_contexts
from tests.command import Fusepkg
from tests.rgw import Gateway, aws_environment
from tests.samples.media import dicom, picture, video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a user, made once."""
    directory = tmp_path_factory.mktemp("data")
    video(directory / "video.mp4")
    video(directory / "odd.avi", frames=7, size="63x47")
    for number, (width, height) in enumerate([(64, 48), (32, 24), (64, 48)], 1):
        picture(directory / f"img{number}.jpeg", width, height)
    picture(directory / "single.png")
    for number in (2, 1):
        dicom(directory / f"slice{number}.dcm", "1.2.3.4", number)
    dicom(directory / "other.dcm", "1.2.3.5", 1)
    return directory


@dataclass
class Place:
    """A bucket for datasets, and one with data of somebody's own. ``server`` is None where they are directories."""

    bucket: str
    data: str
    server: Gateway | None
    root: Path

    def put(self, name: str, file: Path) -> str:
        """Have an object with a file's bytes; its URL."""
        if self.server is None:
            shutil.copy(file, self.root / name)
            return f"file://{self.root / name}"
        self.server.s3.put_object(Bucket=self.data, Key=name, Body=file.read_bytes())
        return f"s3://{self.data}/{name}"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path, home: Path) -> Iterator[Place]:
    root = tmp_path / "elsewhere"
    root.mkdir()
    if request.param == "local":
        yield Place("local", "", None, root)
    else:
        server: Gateway = request.getfixturevalue("s3")
        yield Place(server.bucket(versioned=True), server.bucket(), server, root)
    close_contexts()


def read_url(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:  # no credentials: the URL has all that is needed
        content: bytes = answer.read()
    return content


def finished(dataset: Dataset, task: int) -> ReEncodeVideoTask:
    """Wait for a task as the document does: by asking for its status."""
    while (status := dataset.re_encode_data_status(task)).status == "SUBMITTED":
        time.sleep(0.1)
    return status


def a_dataset(place: Place, title: str) -> Dataset:
    client = DatasetClient(place.bucket)
    return client.get_dataset(client.create_dataset(title).dataset_hash)


def test_create_and_list(place: Place) -> None:
    client = DatasetClient(place.bucket)
    location = StorageLocation.AWS if place.server else StorageLocation.CORD_STORAGE
    created = client.create_dataset("Example Title", location, "Example description ...")
    assert (created.title, created.type, created.dataset_hash) == (
        "Example Title",
        location,
        f"{place.bucket}/example-title",
    )
    with pytest.raises(DataUnfit, match="already"):
        client.create_dataset("Example Title")

    # Listing existing datasets
    client.create_dataset("Validation 1", name="first")
    (example, first) = client.get_datasets()
    assert (example.dataset_hash, first.dataset_hash) == (created.dataset_hash, f"{place.bucket}/first")
    assert (example.title, example.description, example.user_hash, example.created_at) == (
        created.title,
        created.description,
        created.user_hash,
        created.created_at,
    )
    assert [one.title for one in client.get_datasets(title_like="Validation%")] == ["Validation 1"]
    assert [one.title for one in client.get_datasets(title_eq="Example Title")] == ["Example Title"]
    assert [one.title for one in client.get_datasets(desc_like="%description%")] == ["Example Title"]
    now, day = datetime.now(UTC), timedelta(days=1)
    assert client.get_datasets(created_before=now - day) == client.get_datasets(edited_before=now - day) == []
    assert len(client.get_datasets(created_after=now - day, edited_after=now - day)) == 2
    assert client.get_datasets(created_before=now + day, edited_after=now + day) == []


def test_upload_images_and_dicom_series(place: Place, made: Path) -> None:
    dataset = a_dataset(place, "Pictures")
    groups = dataset.create_image_group([made / f"img{number}.jpeg" for number in (1, 2, 3)], "drive")
    assert [(group.title, group.width, group.height) for group in groups] == [
        ("drive 64x48", 64, 48),
        ("drive 32x24", 32, 24),
    ]
    images = groups[0].images_data or []
    assert [(image.title, image.data_sequence) for image in images] == [("img1.jpeg", 0), ("img3.jpeg", 1)]
    dataset.upload_image(made / "single.png", client_metadata={"camera": "left"})
    series = dataset.create_dicom_series([made / "slice2.dcm", made / "slice1.dcm", made / "other.dcm"], "chest")
    assert [(row.title, len(row.images_data or ())) for row in series] == [("chest 1", 2), ("chest 2", 1)]
    assert [image.title for image in series[0].images_data or ()] == ["slice1.dcm", "slice2.dcm"]
    assert series[0].meta["modality"] == "CT"
    kinds = Counter(row.data_type for row in dataset.data_rows)
    assert kinds == {DataType.IMAGE: 1, DataType.IMG_GROUP: 2, DataType.DICOM: 2}
    assert {row.uid for row in dataset.list_data_rows(data_types=["img_group"])} == {group.uid for group in groups}


@pytest.mark.fuse
def test_upload_read_update_delete(place: Place, made: Path, tmp_path: Path, fusepkg: Fusepkg) -> None:
    dataset = a_dataset(place, "Example Title")
    uploaded = dataset.upload_video(made / "video.mp4")
    assert (uploaded.title, uploaded.data_type, uploaded.file_type) == ("video.mp4", DataType.VIDEO, "video/mp4")
    assert (uploaded.width, uploaded.height, uploaded.frames, uploaded.frames_per_second) == (64, 48, 10, 5.0)
    assert uploaded.duration == 2.0
    assert dataset.upload_video(made / "video.mp4").uid == uploaded.uid
    (group,) = dataset.create_image_group([made / "img3.jpeg", made / "img1.jpeg"], "drive")

    # Reading and updating data
    renamed = dataset.update_data_row(uploaded.uid, title="front camera", client_metadata={"side": "front"})
    assert (renamed.uid, renamed.title, renamed.client_metadata) == (uploaded.uid, "front camera", {"side": "front"})
    assert renamed.last_edited_at > renamed.created_at
    url = dataset.signed_url(uploaded.uid)
    assert read_url(url) == (made / "video.mp4").read_bytes()

    # A dataset is a package: mounted, searched, an older version read
    mountpoint = tmp_path / "mounted"
    mountpoint.mkdir()
    fusepkg("mount", dataset.reference, mountpoint, "--engine", "auto" if place.server else "fuse")
    try:
        assert (mountpoint / renamed.logical_key).read_bytes() == (made / "video.mp4").read_bytes()
        assert json.loads((mountpoint / "dataset.json").read_text())["title"] == "Example Title"
        assert os.listdir(mountpoint / group.logical_key) == ["0000-img3.jpeg", "0001-img1.jpeg"]
    finally:
        fusepkg("umount", mountpoint)
    query = "SELECT logical_key FROM entries WHERE meta->>'data_title' = 'front camera'"
    assert fusepkg("query", dataset.reference, query).stdout.splitlines()[1:] == [renamed.logical_key]
    before = dataset.package.hash

    # Deleting data: what does not belong to the dataset is ignored, and named
    deleted = dataset.delete_data([uploaded.uid, group.uid, "<another dataset's>"])
    assert (deleted.deleted, deleted.ignored) == ([uploaded.uid, group.uid], ["<another dataset's>"])
    assert dataset.data_rows == []
    older = Dataset(f"{dataset.dataset_hash}@{before}")
    assert uploaded.uid in {row.uid for row in older.data_rows}
    with pytest.raises(UsageError, match="never changes"):
        older.delete_data([uploaded.uid])


def test_private_cloud(place: Place, made: Path, tmp_path: Path) -> None:
    dataset = a_dataset(place, "Private")
    integration = dataset.get_cloud_integrations()[0].id
    urls = {
        name: place.put(name, made / name)
        for name in ("video.mp4", "img1.jpeg", "img2.jpeg", "single.png", "slice1.dcm")
    }
    content = {
        "videos": [{"objectUrl": urls["video.mp4"], "clientMetadata": {"side": "left"}}],
        "image_groups": [
            {"title": "walk", "createVideo": True, "objectUrl_1": urls["img2.jpeg"], "objectUrl_0": urls["img1.jpeg"]},
            {"title": "all", "createVideo": False, "objectUrl_0": urls["img1.jpeg"], "objectUrl_1": urls["img2.jpeg"]},
        ],
        "images": [{"objectUrl": urls["single.png"], "title": "single"}],
        "dicom_series": [{"title": "chest", "objectUrl_0": urls["slice1.dcm"]}],
        "skip_duplicate_urls": True,
    }
    file = tmp_path / "data.json"
    file.write_text(json.dumps(content))
    answer = dataset.add_private_data_to_dataset(integration, str(file))
    assert [one.title for one in answer.dataset_data_list] == [
        "video.mp4",
        "single",
        "walk 64x48",
        "walk 32x24",
        "all",
        "chest",
    ]
    rows = {row.title: row for row in dataset.data_rows}
    assert rows["video.mp4"].client_metadata == {"side": "left"}
    assert len(rows["all"].images_data or ()) == 2
    link = rows["video.mp4"].file_link
    if place.server:  # it stays where it is
        assert link is not None
        assert link.startswith(f"s3://{place.data}/video.mp4")
    assert Package(dataset.reference)[rows["video.mp4"].logical_key].get_bytes() == (made / "video.mp4").read_bytes()

    # The idiomatic script: one by one, each repeated as often as one likes
    again = dataset.add_private_data_to_dataset(integration, content)
    assert again.dataset_data_list == []
    assert {one.data_hash for one in again.already_there} == {row.uid for row in rows.values()}
    version = dataset.package.hash
    for url in (urls["img1.jpeg"], urls["img2.jpeg"]):
        for _ in range(2):
            one = dataset.add_private_data_to_dataset(integration, {"images": [{"objectUrl": url}]})
            assert len(one.dataset_data_list) + len(one.already_there) == 1
    assert len(dataset.data_rows) == 8
    assert dataset.package.hash != version


def test_every_failed_line_is_told(place: Place, made: Path, tmp_path: Path, fusepkg: Fusepkg) -> None:
    """Nothing is added then, or the others, if that is wished."""
    dataset, file = a_dataset(place, "Private"), tmp_path / "data.json"
    urls = {name: place.put(name, made / name) for name in ("single.png", "slice1.dcm", "odd.avi")}
    file.write_text(
        json.dumps(
            {
                "videos": [
                    {"objectUrl": urls["single.png"].replace("single.png", "gone.mp4")},
                    {"objectUrl": urls["odd.avi"]},
                    {"objectUrl": urls["slice1.dcm"]},
                    {"title": "no url"},
                ],
                "images": [{"objectUrl": "https://storage.googleapis.com/bucket/a.png"}],
            }
        )
    )
    with pytest.raises(DataUnfit, match=r"4 of the data cannot be added: .*videos\[3\]: no objectUrl"):
        dataset.add_private_data_to_dataset(None, file)
    assert dataset.data_rows == []
    told = fusepkg("datasets", "add-private-data", dataset.dataset_hash, file, "--copy", "--ignore-errors", check=False)
    assert told.returncode == 1
    assert told.stdout.endswith("\todd.avi\n")
    assert all(f"Failed: {where}" in told.stderr for where in ("videos[0]", "videos[2]", "videos[3]", "images[0]"))
    assert "1 row added, 4 failed" in told.stderr
    copied = dataset.list_data_rows(title_eq="odd.avi")[0]
    assert copied.file_link is not None
    assert (copied.width, copied.height, copied.frames) == (63, 47, 7)
    if place.server:
        assert copied.file_link.startswith(f"s3://{place.bucket}/private/videos/odd.avi")
    with pytest.raises(UsageError, match="no integration 'other'"):
        dataset.add_private_data_to_dataset("other", file)


def test_re_encoding(place: Place, made: Path, tmp_path: Path, fusepkg: Fusepkg) -> None:
    dataset = a_dataset(place, "Videos")
    videos = [dataset.upload_video(made / name) for name in ("video.mp4", "odd.avi")]
    picture_row = dataset.upload_image(made / "single.png")
    task = dataset.re_encode_data([videos[0].uid, videos[1].uid, picture_row.uid, "<another's>"])
    assert task == 1
    status = finished(dataset, task)
    assert (status.status, status.reason) == ("DONE", "")
    assert [one.data_hash for one in status.result or ()] == [video.uid for video in videos]
    for result, before in zip(status.result or (), videos, strict=True):
        row = dataset.get_data_row(result.data_hash)
        assert row.file_link == result.bucket_path
        assert (row.title, row.frames, row.file_type) == (before.title, before.frames, "video/mp4")
        assert row.meta["codec"] == "h264"
        (tmp_path / "re-encoded.mp4").write_bytes(read_url(result.signed_url))
        assert read_video(tmp_path / "re-encoded.mp4", "it").frames == before.frames
    listed = json.loads(fusepkg("tasks", "list", place.bucket, "--json").stdout)
    assert [(one["number"], one["status"], one["kind"]) for one in listed] == [(1, "DONE", "re-encode")]
    assert fusepkg("tasks", "show", place.bucket, "1").stdout.startswith("Task 1: DONE\n")

    # A task whose file is gone says so
    lost = dataset.upload_video(video(tmp_path / "lost.mp4", frames=3))
    assert lost.file_link is not None
    _remove(place, lost.file_link)
    fusepkg("cache", "clear")
    failing = dataset.re_encode_data([lost.uid], start=False)
    done = fusepkg("tasks", "run", place.bucket, str(failing), check=False)
    assert done.returncode == 15
    status = dataset.re_encode_data_status(failing)
    assert status.status == "ERROR"
    assert "lost.mp4" in status.reason
    assert lost.uid in status.reason

    # Cancelled before anybody began; a task of another dataset; a row that was deleted meanwhile
    cancelled = dataset.re_encode_data([lost.uid], start=False)
    assert fusepkg("tasks", "cancel", place.bucket, str(cancelled)).stdout == f"Task {cancelled}: CANCELLED\n"
    assert dataset.re_encode_data_status(cancelled).status == "ERROR"
    other = a_dataset(place, "Other")
    with pytest.raises(TaskNotFound, match="is not about videos of"):
        other.re_encode_data_status(task)
    with pytest.raises(DataUnfit, match="none of these is a video"):
        other.re_encode_data([lost.uid])
    deleted = dataset.re_encode_data([lost.uid], start=False)
    dataset.delete_data(lost.uid)
    fusepkg("tasks", "run", place.bucket)
    assert "has no data row" in dataset.re_encode_data_status(deleted).reason


def _remove(place: Place, link: str) -> None:
    found = parse_physical_key(link)
    if place.server is None:
        Path(found.key).unlink()
    else:
        place.server.s3.delete_object(Bucket=found.bucket, Key=found.key, VersionId=found.version or "null")


@pytest.mark.s3
def test_access_instead_of_keys(s3: Gateway, made: Path, tmp_path: Path, fusepkg: Fusepkg) -> None:
    bucket, stranger = s3.bucket(), s3.user()
    client = DatasetClient(bucket)
    dataset = client.get_dataset(client.create_dataset("Shared").dataset_hash)
    uploaded = dataset.upload_image(made / "single.png")
    other = client.get_dataset(client.create_dataset("Secret").dataset_hash)
    theirs = aws_environment(s3.endpoint, stranger)

    def allow(*words: str) -> None:
        policy = fusepkg("datasets", "access-policy", dataset.dataset_hash, *words).stdout
        s3.s3.put_bucket_policy(Bucket=bucket, Policy=policy)

    def run(*words: object) -> tuple[int, str]:
        done = fusepkg(*words, check=False, env=theirs)
        return done.returncode, done.stdout

    denied = AccessDenied.exit_code
    assert run("datasets", "data-rows", dataset.dataset_hash)[0] == denied
    allow()
    assert uploaded.uid in run("datasets", "data-rows", dataset.dataset_hash)[1]
    assert run("datasets", "data-rows", other.dataset_hash)[0] == denied
    assert run("datasets", "upload-image", dataset.dataset_hash, made / "img1.jpeg")[0] == denied
    assert fusepkg("datasets", "access-policy", dataset.dataset_hash, "--write", check=False).returncode == 2
    # Ceph has objects belong to whoever wrote them, so the owner of the bucket is named too
    users = [client.list_buckets()["Owner"]["ID"] for client in (s3.client(stranger), s3.s3)]
    allow("--write", *(word for user in users for word in ("--principal", f"arn:aws:iam:::user/{user}")))
    assert run("datasets", "upload-image", dataset.dataset_hash, made / "img1.jpeg")[0] == 0
    assert len(dataset.data_rows) == 2

    # A bucket one may not read, in the JSON
    secret = s3.bucket()
    s3.s3.put_object(Bucket=secret, Key="a.png", Body=(made / "single.png").read_bytes())
    (tmp_path / "data.json").write_text(json.dumps({"images": [{"objectUrl": f"s3://{secret}/a.png"}]}))
    refused = fusepkg(
        "datasets", "add-private-data", dataset.dataset_hash, tmp_path / "data.json", check=False, env=theirs
    )
    assert refused.returncode == DataUnfit.exit_code
    assert f"s3://{secret}/a.png" in refused.stderr
