"""Installing many small files out of packs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.command import Fusepkg
from tests.proxy import Corrupt, Proxy

if TYPE_CHECKING:
    from tests.rgw import Gateway

pytestmark = pytest.mark.s3

FILES = 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:03}").write_text(f"content of {number}")
    (folder / "link").symlink_to("007")
    (folder / "same").write_text("content of 7")
    return folder


def installed(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def gets(proxy: Proxy, beginning: str) -> int:
    return sum(request.operation == "GetObject" and request.key.startswith(beginning) for request in proxy.requests)


def test_small_files_come_many_in_a_request(
    proxy: Proxy, s3: Gateway, fusepkg: Fusepkg, folder: Path, tmp_path: Path
) -> None:
    reference = f"{s3.bucket()}/data:v1"
    assert json.loads(fusepkg("push", folder, reference, "--json").stdout)["packs"] == 1
    proxy.forget()
    fusepkg("install", reference, "--location", tmp_path / "there")
    assert installed(tmp_path / "there") == installed(folder)
    assert 1 <= gets(proxy, ".quilt/packs/data/") <= 8
    assert gets(proxy, ".quilt/packs/tables/") == 1
    assert gets(proxy, "data/") == 0
    # a file that is missing is one request, of its object
    (tmp_path / "there" / "123").unlink()
    proxy.forget()
    fusepkg("install", reference, "--location", tmp_path / "there")
    assert (tmp_path / "there" / "123").read_text() == "content of 123"
    assert (gets(proxy, ".quilt/packs/data/"), gets(proxy, "data/")) == (0, 1)


def test_what_a_damaged_pack_should_hold_is_read_from_objects(
    proxy: Proxy, s3: Gateway, fusepkg: Fusepkg, folder: Path, tmp_path: Path
) -> None:
    reference = f"{s3.bucket()}/data:v1"
    fusepkg("push", folder, reference)
    proxy.fail(Corrupt(0), when=lambda request: request.key.startswith(".quilt/packs/data/"), times=None)
    fusepkg("install", reference, "--location", tmp_path / "there")
    assert installed(tmp_path / "there") == installed(folder)
    assert gets(proxy, "data/") >= 1
