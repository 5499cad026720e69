"""A transform in a bucket of S3: workers write there themselves, and a repeat asks for what is missing only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.api.entry import PackageEntry
from fusepkg.opened.contexts import close_contexts
from tests.proxy import Proxy
from tests.rgw import Gateway
from tests.unit.transforms.functions import doubled

COUNT = 12


@pytest.fixture
def package(s3: Gateway, proxy: Proxy, tmp_path: Path) -> Iterator[Package]:
    (folder := tmp_path / "in").mkdir()
    for number in range(COUNT):
        (folder / f"{number:03}.txt").write_text(f"{number}\n")
    yield PackageBuilder(f"{s3.bucket()}/in", quiet=True).add(f"{folder}/", "in/").push_data_and_manifest(tag="v1")
    close_contexts()


def _data(proxy: Proxy, operation: str, below: str) -> list[str]:
    return [one.key for one in proxy.requests if one.operation == operation and one.key.startswith(below)]


@pytest.mark.s3
def test_a_repeat_writes_what_is_missing(package: Package, proxy: Proxy) -> None:
    bucket = package.reference.bucket
    wrong = {"in/003.txt"}

    def picky(entry: PackageEntry) -> bytes:
        if entry.logical_key in wrong:
            raise ValueError("not this one")
        return entry.get_bytes() * 2

    made = package.map(picky, out=f"{bucket}/out:v1", executor="threads", jobs=2)
    assert [str(failure) for failure in made.failures] == ["in/003.txt: ValueError: not this one"]
    wrong.clear()
    proxy.forget()
    made = package.map(picky, out=f"{bucket}/out:v1", executor="threads", jobs=2)
    assert (made.done, made.reused, made.failures) == (1, COUNT - 1, ())
    assert _data(proxy, "PutObject", "out/") == ["out/in/003.txt"]
    assert _data(proxy, "GetObject", "in/") == ["in/in/003.txt"], "which the first run did not read"
    assert made.package.get("in/011.txt") == b"11\n11\n"


@pytest.mark.s3
def test_processes_write_the_same_version(package: Package) -> None:
    bucket = package.reference.bucket
    made = package.map(doubled, out=f"{bucket}/out:v1", executor="processes", jobs=1)
    assert (made.done, made.failures) == (COUNT, ())
    assert package.map(doubled, out=f"{bucket}/threads:v1").package.hash == made.package.hash
