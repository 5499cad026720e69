from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.model.reference import parse_bucket
from fusepkg.store.directory import DirectoryStore
from fusepkg.store.opening import StoreSet, open_store
from fusepkg.store.s3 import S3Settings, S3Store


@pytest.mark.parametrize(
    ("bucket", "url"),
    [
        ("local", "file://{data}/local/key"),
        ("file:///srv/registry/", "file:///srv/registry/key"),
        ("my-bucket", "s3://my-bucket/key"),
        ("s3://local", "s3://local/key"),
    ],
)
def test_the_kind_of_store_a_bucket_has(bucket: str, url: str, tmp_path: Path) -> None:
    for store in (
        open_store(parse_bucket(bucket), S3Settings(), tmp_path),
        StoreSet(S3Settings(), tmp_path).for_bucket(parse_bucket(bucket)),
    ):
        assert store.url("key") == url.format(data=tmp_path)


def test_what_is_created_is_found_by_its_url(tmp_path: Path) -> None:
    store = open_store(parse_bucket("local"), S3Settings(), tmp_path)
    store.create("data/a b", b"hello")
    found, key = StoreSet(S3Settings(), tmp_path).for_key(parse_physical_key(store.url("data/a b")))
    assert isinstance(found, DirectoryStore)
    assert found.get(key) == b"hello"


def test_one_store_per_bucket(tmp_path: Path) -> None:
    stores = StoreSet(S3Settings(), tmp_path)
    first, key = stores.for_key(PhysicalKey("s3", "one", "a", "v"))
    assert isinstance(first, S3Store)
    assert key == "a"
    assert stores.for_key(PhysicalKey("s3", "one", "b")) == (first, "b")
    assert stores.for_key(PhysicalKey("s3", "two", "b"))[0] is not first
    assert stores.for_bucket(parse_bucket("one")) is first


def test_a_local_package_costs_no_s3(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from fusepkg.model.reference import parse_bucket
from fusepkg.store.opening import StoreSet, open_store
from fusepkg.store.s3 import S3Settings
store = open_store(parse_bucket("local"), S3Settings(), Path(sys.argv[1]))
store.create("a", b"x")
store.get("a")
StoreSet(S3Settings(), Path(sys.argv[1])).for_bucket(parse_bucket("my-bucket"))
print(sorted({"boto3", "botocore", "httptools", "urllib3", "trio"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
