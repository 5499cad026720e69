"""What a mount tells about its files: `fusepkg stat`, `fusepkg status`, extended attributes."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest

from tests.trees import CHUNK_BYTES, LARGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Place

    MountFactory = Callable[..., AbstractContextManager[Mount]]

pytestmark = pytest.mark.fuse

CHUNKS = -(-LARGE_BYTES // CHUNK_BYTES)
PARTLY = {"cached": "partly", "chunks_cached": 1, "chunks": CHUNKS}


def test_stat_tells_hash_object_meta_and_cached(
    place: Place, mount: MountFactory, originals: Originals, fusepkg: Fusepkg
) -> None:
    """`fusepkg stat FILE` tells its hash, its object, its metadata, and whether the cache holds it: yes, no, partly."""
    with mount("big:v1") as mounted:

        def stat(path: str) -> dict[str, object]:
            facts: dict[str, object] = json.loads(fusepkg("stat", mounted / path, "--json").stdout)
            return facts

        data = (originals.big / "bin/hello").read_bytes()
        facts = stat("bin/hello")
        assert facts["logical_key"] == "bin/hello"
        assert facts["hash"] == str(compute_digest(Algorithm.SHA2_256_CHUNKED, data))
        assert facts["size"] == len(data)
        assert json.loads(str(facts["meta"])) == {"fusepkg": {"executable": True}}
        assert place.get(str(facts["physical_key"])) == data
        assert (facts["cached"], facts["chunks_cached"], facts["chunks"]) == ("no", 0, 1)
        (mounted / "bin/hello").read_bytes()
        mounted.wait_until_kept("bin/hello")
        assert "cached:         yes" in fusepkg("stat", mounted / "bin/hello").stdout
        assert stat("links/to-link")["size"] == len("to-file")

        large = "sizes/large.bin"
        assert (mounted.facts(large)["cached"], mounted.facts(large)["chunks"]) == ("no", CHUNKS)
        descriptor = os.open(mounted / large, os.O_RDONLY)
        os.pread(descriptor, 100, LARGE_BYTES - 100)
        os.close(descriptor)
        mounted.wait_until_kept(large)
        assert {**mounted.facts(large), **PARTLY} == mounted.facts(large)
        (mounted / large).read_bytes()
        mounted.wait_until_kept(large, wholly=True)
        assert mounted.facts(large)["chunks_cached"] == CHUNKS


def test_stat_of_what_is_no_file(mount: MountFactory, fusepkg: Fusepkg) -> None:
    """`fusepkg stat` of a directory or of a missing name says so."""
    with mount("small:v1") as mounted:
        for path, word in (("train", "directory"), ("no-such", "is not there")):
            said = fusepkg("stat", mounted / path, check=False)
            assert said.returncode != 0
            assert word in said.stderr
            assert "Traceback" not in said.stderr


def test_extended_attributes(place: Place, engine: str, mount: MountFactory, originals: Originals) -> None:
    """With fuse and `--xattrs` the same facts are `user.fusepkg.*`, not listed, so not copied; else files have none."""
    with mount("small:v1") as mounted:
        with pytest.raises(OSError) as caught:
            os.getxattr(mounted / "run.sh", "user.fusepkg.cached")
        # With fuse the kernel has been told once, and asks no more: each `ls -l` of a file would be two questions.
        assert caught.value.errno == (errno.ENODATA if engine == "erofs" else errno.EOPNOTSUPP)
    with mount("small:v1", "--xattrs") as mounted:
        file = mounted / "run.sh"
        assert os.listxattr(file) == os.listxattr(mounted.root) == []
        if engine == "erofs":
            return
        facts = mounted.facts("run.sh")
        names = {name: os.getxattr(file, f"user.fusepkg.{name}").decode() for name in facts}
        assert names == {name: str(value) for name, value in facts.items()}
        assert names["cached"] == "no"
        assert names["logical_key"] == "run.sh"
        assert place.get(names["physical_key"]) == (originals.small / "run.sh").read_bytes()
        file.read_bytes()
        mounted.wait_until_kept("run.sh")
        assert os.getxattr(file, "user.fusepkg.cached") == b"yes"
        assert os.getxattr(mounted.root, "user.fusepkg.top_hash").decode() == mounted.record.top_hash
        for name in ("user.fusepkg.no-such", "user.other", "security.selinux", "system.posix_acl_access"):
            with pytest.raises(OSError) as caught:
                os.getxattr(file, name)
            assert caught.value.errno in (errno.ENODATA, errno.EOPNOTSUPP)


def test_status_tells_what_is_mounted(mount: MountFactory, fusepkg: Fusepkg, engine: str) -> None:
    """`fusepkg status DIR` tells package, engine and what was fetched; `fusepkg mounts` lists all mounts."""
    with mount("small:v1") as mounted:
        (mounted / "README.md").read_bytes()
        status = json.loads(fusepkg("status", mounted.root, "--json").stdout)
        assert status["top_hash"] == mounted.record.top_hash
        assert status["engine"] == engine
        assert status["counters"]["fetched_objects"] == 1
        assert status["counters"]["served_bytes"] == len((mounted / "README.md").read_bytes())
        text = fusepkg("status", mounted / "train").stdout  # any path in the mount will do
        assert f"Package: {mounted.record.reference} ({mounted.record.top_hash[:9]})" in text
        listed = json.loads(fusepkg("mounts", "--json").stdout)
        assert [mount["alive"] for mount in listed if mount["mountpoint"] == str(mounted.root)] == [True]
