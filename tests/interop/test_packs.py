"""Packs beside a package of quilt3: both programs read it as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusepkg import Package
from tests.command import Fusepkg
from tests.interop.places import Place, contents_of
from tests.interop.quilt import PUBLISH, READ, run_quilt3

pytestmark = [pytest.mark.s3, pytest.mark.parametrize("place", ["unversioned"], indirect=True)]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    (tmp_path / "many" / "d").mkdir(parents=True)
    for number in range(260):
        (tmp_path / "many" / "d" / f"{number:03}").write_bytes(b"%d " % number * 100)
    return tmp_path / "many"


def test_a_version_of_quilt3s_gets_packs_and_stays_what_it_is(
    place: Place, many: Path, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    reference = place.reference("ns/data")
    top_hash = run_quilt3(PUBLISH, name="ns/data", registry=place.registry, folder=many)
    packed = json.loads(fusepkg("pack", reference, "--json").stdout)
    assert (packed["top_hash"], packed["packs"], packed["new_packs"], packed["warnings"]) == (top_hash, 1, 1, [])
    found = run_quilt3(READ, name="ns/data", registry=place.registry, into=tmp_path / "into")
    assert (found["top_hash"], found["verified"], found["packages"]) == (top_hash, True, ["ns/data"])
    assert contents_of(tmp_path / "into") == contents_of(many)
    assert "1 pack, of them 0 new" in fusepkg("pack", reference).stdout
    assert fusepkg("list", place.bucket).stdout.split() == ["ns/data"]
    assert {entry.logical_key: entry.get_bytes() for entry in Package(reference)} == contents_of(many)
    assert json.loads(fusepkg("push", "--registry-format", "quilt3", "--json", many, reference).stdout)["packs"] == 1
