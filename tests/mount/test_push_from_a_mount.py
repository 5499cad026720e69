"""A mount is a folder to push from; the next mount at its place has the same inodes and device number."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import Fusepkg
from tests.machine import why_no_fuse


def test_each_version_is_pushed_as_it_is(fusepkg: Fusepkg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount can be pushed from: each version is published as it is, also one mounted in another's place."""
    if reason := why_no_fuse():
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("m").mkdir()
    for version in ("v1", "v2"):
        Path("folder", "x.csv").write_text(f"row,{version}\n")
        fusepkg("push", "folder", f"local/a:{version}")
        fusepkg("mount", f"local/a:{version}", "m", "--engine", "fuse")
        try:
            fusepkg("push", "m", f"local/mirror:{version}")
        finally:
            fusepkg("umount", "m")
        assert fusepkg("cat", f"local/mirror:{version}", "x.csv").stdout == f"row,{version}\n"
        assert fusepkg("hash", f"local/a:{version}").stdout == fusepkg("hash", f"local/mirror:{version}").stdout
