from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fusepkg
from fusepkg.opened.contexts import close_contexts
from tests.rgw import Gateway
from tests.samples.prompt import Samples

BUCKETS = ("bucket", "otherbucket")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def samples(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Samples]:
    """An empty bucket (two, on S3), an empty working directory, and a prompt that has imported the API."""
    if request.param == "s3":
        _make_empty(request.getfixturevalue("s3"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    names = {"Package": fusepkg.Package, "PackageBuilder": fusepkg.PackageBuilder}
    yield Samples(request.param, home / "fusepkg-data", names)
    close_contexts()


def _make_empty(gateway: Gateway) -> None:
    """The document's buckets, with these very names."""
    there = {found["Name"] for found in gateway.s3.list_buckets()["Buckets"]}
    for name in BUCKETS:
        if name not in there:
            gateway.s3.create_bucket(Bucket=name)
        for page in gateway.s3.get_paginator("list_objects_v2").paginate(Bucket=name):
            for found in page.get("Contents", []):
                gateway.s3.delete_object(Bucket=name, Key=found["Key"])
