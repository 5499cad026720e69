"""A push that is killed while it writes packs: nothing names them, and the next push finishes them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from fusepkg.packs.table import FEWEST_SMALL_ENTRIES
from tests.proxy import ACCESS_DENIED, Request, Stall

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.proxy import Proxy
    from tests.rgw import Gateway

pytestmark = pytest.mark.s3

_TIMEOUT_S = 60.0


@pytest.fixture
def many(tmp_path: Path) -> Path:
    (tmp_path / "many").mkdir()
    for number in range(FEWEST_SMALL_ENTRIES):
        (tmp_path / "many" / f"{number:03}").write_bytes(b"%d" % number)
    return tmp_path / "many"


def is_put_of_a_pack(request: Request) -> bool:
    return request.method == "PUT" and request.key.startswith(".quilt/packs/")


def test_a_push_killed_among_its_packs_is_finished_by_the_next(
    proxy: Proxy, s3: Gateway, fusepkg: Fusepkg, many: Path
) -> None:
    reference = f"{s3.bucket()}/many:v1"
    rule = proxy.fail(Stall(), when=is_put_of_a_pack, times=None)
    process = subprocess.Popen(
        [sys.executable, "-m", "fusepkg", "push", many, reference], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + _TIMEOUT_S
        while not rule.hits:
            assert time.monotonic() < deadline, "no pack is sent"
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    proxy.heal()
    assert fusepkg("log", reference, check=False).returncode == 3  # nothing was published
    pushed = json.loads(fusepkg("push", many, reference, "--json").stdout)
    assert (pushed["packs"], pushed["uploaded_objects"], pushed["warnings"]) == (1, 0, [])
    assert json.loads(fusepkg("push", many, reference, "--json").stdout)["new_packs"] == 0
    fusepkg("verify", reference)


def test_a_push_that_may_not_write_packs_publishes_the_version(
    proxy: Proxy, s3: Gateway, fusepkg: Fusepkg, many: Path
) -> None:
    reference = f"{s3.bucket()}/many:v1"
    proxy.fail(ACCESS_DENIED, when=is_put_of_a_pack, times=None)
    pushed = json.loads(fusepkg("push", many, reference, "--json").stdout)
    assert (pushed["packs"], pushed["tag_moved"]) == (0, True)
    assert "No packs were written" in pushed["warnings"][0]
    proxy.heal()
    assert json.loads(fusepkg("pack", reference, "--json").stdout)["new_packs"] == 1
