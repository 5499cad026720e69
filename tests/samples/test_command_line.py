"""The command-line samples of the use cases, sample by sample, in their order; ``quilt`` is ``fusepkg`` here.

Where a transcript below is not the document's, docs/reference/use-cases.md says why.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from tests.command import run_fusepkg
from tests.rgw import Gateway
from tests.samples.prompt import Samples


def write(files: dict[str, str]) -> None:
    """Files below the working directory."""
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def publish(samples: Samples) -> None:
    """The package that the first samples install."""
    write({"../publisher/README.md": "# Dataset\n", "../publisher/train/1.jpg": "1"})
    builder = PackageBuilder(samples.here("bucket/dataset"), quiet=True).add("../publisher", "")
    builder.push_data_and_manifest(tag="tag")


def test_download(samples: Samples) -> None:
    publish(samples)
    samples.shell("""
$ quilt install bucket/dataset:tag --location ./dataset
Installing Package bucket/dataset:tag to ./dataset/...

$ quilt status ./dataset
Package: bucket/dataset:tag (18b6a77a6)
No files have been changed

$ quilt hash ./dataset
18b6a77a6ab31d304f03e01561fbc755b44746b376bcd85e6d226948876470b3
""")
    assert Path("dataset/train/1.jpg").read_text() == "1"


@pytest.mark.fuse
def test_virtualise_the_filesystem_to_make_installation_fast(samples: Samples) -> None:
    publish(samples)
    try:
        samples.shell("""
$ quilt install bucket/dataset:tag --location ./dataset --lazy-download
Installing Package bucket/dataset:tag to ./dataset/...
""")
        assert os.path.ismount("dataset")
        assert Path("dataset/train/1.jpg").read_text() == "1"
    finally:
        run_fusepkg("umount", "./dataset")


STEP_BY_STEP = """
$ quilt init bucket/dataset
New PackageBuilder bucket/dataset created

$ quilt add train2017/
Adding contents of directory ./train2017/ to bucket/dataset as train2017/...

$ quilt add val2017/ s3://otherbucket/abc/validation/
Adding objects in s3://otherbucket/abc/validation/ to bucket/dataset as val2017/...

$ quilt status
PackageBuilder: bucket/dataset (pre-manifest)

Data:
  train2017/    ->  ./train2017/
  val2017/      ->  s3://otherbucket/abc/validation/

$ quilt build-manifest
Building manifest...
Tophash: 82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73

$ quilt status
PackageBuilder: bucket/dataset (82111d74b)

Data:
  train2017/    ->  ./train2017/
  val2017/      ->  s3://otherbucket/abc/validation/

$ quilt push-data --prefix=data/dataset/v0/ --local-files-only
Pushing ./train2017/ to s3://bucket/data/dataset/v0/train2017/...

$ quilt status
PackageBuilder: bucket/dataset (82111d74b)

Data:
  train2017/    ->  s3://bucket/data/dataset/v0/train2017/
  val2017/      ->  s3://otherbucket/abc/validation/

$ quilt push-data --prefix=data/dataset/v0/
Pushing ./train2017/ to s3://bucket/data/dataset/v0/train2017/... (data exists, skipping)
Copying s3://otherbucket/abc/validation/ to s3://bucket/data/dataset/v0/val2017/...

$ quilt status
PackageBuilder: bucket/dataset (82111d74b)

Data:
  train2017/    ->  s3://bucket/data/dataset/v0/train2017/
  val2017/      ->  s3://bucket/data/dataset/v0/val2017/

$ quilt push-manifest -t v0
Pushing manifest to s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=82/82111d74b46893c539e816a1119891362049b7a744dd1e18\
8b58751a8ec58b73.jsonl
Linking bucket/dataset:v0 to manifest 82111d74b

$ quilt status
Package: bucket/dataset:v0 (82111d74b)
Data matches manifest

$ quilt add test2017/ ../test2017/
Adding contents of directory ../test2017/ to bucket/dataset as test2017/...

$ quilt status
PackageBuilder: bucket/dataset (pre-manifest)

Data:
  train2017/    ->  s3://bucket/data/dataset/v0/train2017/
  val2017/      ->  s3://bucket/data/dataset/v0/val2017/
  test2017/     ->  ../test2017/

$ quilt set train2017/1.jpg ./replacement/1.jpg
Setting logical key train2017/1.jpg as ./replacement/1.jpg

$ quilt status
PackageBuilder: bucket/dataset (pre-manifest)

Data:
  train2017/         ->  s3://bucket/data/dataset/v0/train2017/
  train2017/1.jpg    ->  ./replacement/1.jpg
  val2017/           ->  s3://bucket/data/dataset/v0/val2017/
  test2017/          ->  ../test2017/

$ quilt push-manifest -t v0
Error: Manifest contains pointers to local files
  Use push-data to first push those files to s3 or --force-allow-local-files if this is intentional

$ quilt push-data --prefix=data/dataset/v0/
Copying s3://bucket/data/dataset/v0/train2017/ to s3://bucket/data/dataset/v0/train2017/... (data exists, skipping)
Pushing ./replacement/1.jpg to s3://bucket/data/dataset/v0/train2017/1.jpg
Copying s3://bucket/data/dataset/v0/val2017/ to s3://bucket/data/dataset/v0/val2017/... (data exists, skipping)
Pushing ../test2017/ to s3://bucket/data/dataset/v0/test2017/...

$ quilt push-manifest
Building manifest...
Tophash: 3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97fa13439e62448

Pushing manifest to s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=3e/3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847\
f97fa13439e62448.jsonl

$ quilt status
Package: bucket/dataset@3e6e97ccc
Data matches manifest
"""


def test_publish_step_by_step(samples: Samples, request: pytest.FixtureRequest) -> None:
    write(
        {
            "work/train2017/1.jpg": "train 1",
            "work/train2017/2.jpg": "train 2",
            "work/replacement/1.jpg": "better",
            "test2017/1.jpg": "test 1",
        }
    )
    validation = {}
    if samples.place == "s3":
        gateway: Gateway = request.getfixturevalue("s3")
        gateway.s3.put_object(Bucket="otherbucket", Key="abc/validation/1.jpg", Body=b"validation 1")
        validation = {"val2017/1.jpg": b"validation 1"}
    os.chdir("work")
    samples.shell(STEP_BY_STEP)
    short = run_fusepkg("status").stdout.splitlines()[0].partition("@")[2]
    pushed = Package(samples.here("bucket/dataset"), hash=short)
    assert {entry.logical_key: entry.get_bytes() for entry in pushed} == {
        "test2017/1.jpg": b"test 1",
        "train2017/1.jpg": b"better",
        "train2017/2.jpg": b"train 2",
    } | validation
    assert Package(samples.here("bucket/dataset:v0")).get("train2017/1.jpg") == b"train 1"
