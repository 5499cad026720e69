"""Links out of a package that their publisher kept: shown so that they cannot be followed, unless the reader asks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fusepkg.errors import ManifestInvalid
from fusepkg.index.opening import Index
from fusepkg.install.repair import find_changes, find_differences
from fusepkg.install.run import install
from fusepkg.model.entry import Entry, EntryKind, meta_for
from fusepkg.model.links import blunted
from tests.manifests import file_entry
from tests.unit.install.conftest import Shop


def link_out(key: str, target: str, *, leads_out: bool = True) -> Entry:
    return file_entry(key, target.encode(), meta=meta_for(EntryKind.SYMLINK, symlink=target, leads_out=leads_out))


@pytest.fixture
def index(shop: Shop) -> Index:
    return shop.version(link_out("bin/python", "/usr/bin/python3"), link_out("up", "../../x"), shop.file("a", b"a"))


def texts(directory: Path) -> dict[str, str]:
    return {name: os.readlink(directory / name) for name in ("bin/python", "up")}


BLUNTED = {"bin/python": "python/usr/bin/python3", "up": "up/../../x"}
PUBLISHED = {"bin/python": "/usr/bin/python3", "up": "../../x"}


def install_all(shop: Shop, index: Index, *, outside_links: bool) -> tuple[str, ...]:
    report = install(index, "bucket/data:v1", shop.directory, shop.origin, shop.data_dir, outside_links=outside_links)
    return report.kept


def test_they_cannot_be_followed_unless_the_reader_asks(shop: Shop, index: Index) -> None:
    assert install_all(shop, index, outside_links=False) == ()
    assert texts(shop.directory) == BLUNTED
    for name in BLUNTED:
        with pytest.raises(OSError, match="symbolic links") as caught:
            (shop.directory / name).stat()
        assert caught.value.errno == errno.ELOOP
    assert find_differences(index, shop.directory) == []
    assert find_changes(index, shop.directory, shop.data_dir) == []

    assert install_all(shop, index, outside_links=True) == ()
    assert texts(shop.directory) == PUBLISHED
    assert find_differences(index, shop.directory) == []
    assert install_all(shop, index, outside_links=False) == ()
    assert texts(shop.directory) == BLUNTED


def test_a_link_that_the_user_changed_stays(shop: Shop, index: Index) -> None:
    install_all(shop, index, outside_links=False)
    (shop.directory / "up").unlink()
    (shop.directory / "up").symlink_to("a")
    assert install_all(shop, index, outside_links=True) == ("up",)
    assert [found.logical_key for found in find_differences(index, shop.directory)] == ["up"]


def test_an_image_shows_them_blunted(index: Index) -> None:
    for name, text in BLUNTED.items():
        nid = index.image.root
        for part in name.split("/"):
            found = index.image.lookup(nid, part.encode())
            assert found is not None
            nid = found
        assert index.image.readlink(nid) == text.encode()


def test_a_link_out_without_the_mark_is_refused(shop: Shop) -> None:
    with pytest.raises(ManifestInvalid, match="leaves the package"):
        shop.version(link_out("up", "../../x", leads_out=False))


def test_a_long_text_is_cut_where_the_kernel_would() -> None:
    assert blunted(b"d/l", b"/") == b"l/"
    long = blunted("é".encode() * 100, "é".encode() * 2000)
    assert len(long) <= 4095
    long.decode()
