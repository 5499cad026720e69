"""Manifests that no mount may show: each is refused with its line, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fusepkg.registry.layout import manifest_key
from tests.manifests import HEADER, file_entry, manifest_of, top_hash_of
from tests.mount.places import Bucket
from tests.mount.test_refusals import INVALID, refused

if TYPE_CHECKING:
    from tests.mount.places import Place
    from tests.mount.test_refusals import Refused

__all__ = ["refused"]

pytestmark = pytest.mark.fuse

TOP_HASH = "bad0" * 16
INTEGRITY = 6


def header() -> bytes:
    return json.dumps(HEADER).encode() + b"\n"


def line(key: str, **changes: object) -> bytes:
    """The line of a file with these fields changed; None takes one out."""
    record: dict[str, Any] = {
        "logical_key": key,
        "physical_keys": ["s3://bucket/key"],
        "size": 3,
        "hash": {"type": "SHA256", "value": "ab" * 32},
        "meta": {},
    }
    record |= changes
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode() + b"\n"


GOOD = line("a/good")

BAD: dict[str, tuple[bytes, int, str]] = {
    # name: manifest, the line it is refused for (0: the whole), a word of the message
    "empty": (b"", 0, ""),
    "not JSON": (header() + GOOD + b"certainly not\n", 3, "JSON"),
    "truncated": (header() + GOOD + line("b")[:40], 3, "cut off"),
    "an array": (header() + b"[1]\n", 2, "object"),
    "not UTF-8": (header() + b'{"logical_key": "\xff"}\n', 2, "UTF-8"),
    "too deep": (header() + line("b").replace(b"{}", b'{"a": ' + b"[" * 99_999 + b"]" * 99_999 + b"}"), 2, "deep"),
    "a field twice": (header() + line("b").replace(b'"size": 3', b'"size": 3, "size": 4'), 2, "twice"),
    "a key twice": (header() + GOOD + GOOD, 3, "a/good"),
    "file and directory": (header() + GOOD + line("a"), 2, "a file and a directory"),
    "directory and file": (header() + line("a") + GOOD, 3, "a file and a directory"),
    "dot dot": (header() + line("../../etc/passwd"), 2, "'..'"),
    "dot": (header() + line("./a"), 2, "'.'"),
    "absolute": (header() + line("/etc/passwd"), 2, "absolute"),
    "an empty part": (header() + line("a//b"), 2, "''"),
    "an empty key": (header() + line(""), 2, "''"),
    "NUL": (header() + line("a\0b"), 2, "NUL"),
    "a surrogate": (header() + line("a\ud800b"), 2, "surrogate"),
    "a long name": (header() + line("n" * 256), 2, "255"),
    "a long path": (header() + line("/".join(["directory"] * 500)), 2, "4095"),
    "a link out": (header() + line("link", size=5, meta={"fusepkg": {"symlink": "../up"}}), 2, "leaves the package"),
    "negative size": (header() + line("b", size=-1), 2, "size"),
    "no size": (header() + line("b", size=None), 2, "size"),
    "no hash": (header() + line("b", hash=None), 2, "hash"),
    "a short hash": (header() + line("b", hash={"type": "SHA256", "value": "ab"}), 2, "SHA256"),
    "an unknown hash": (header() + line("b", hash={"type": "MD5", "value": "ab"}), 2, "MD5"),
    "an unknown scheme": (header() + line("b", physical_keys=["ftp://host/file"]), 2, "ftp"),
    "no version": (b'{"message": null}\n' + GOOD, 1, "version"),
    "a version to come": (b'{"version": "v9", "message": null}\n' + GOOD, 1, "v9"),
}  # fmt: skip


FROM_A_BUCKET_TOO = ("empty", "not JSON", "truncated", "file and directory", "dot dot")
"""Once fetched they are read by the same code wherever they came from, so a few will do."""


@pytest.mark.parametrize(
    ("place", "name"),
    [("local", name) for name in BAD] + [pytest.param("s3", name, marks=pytest.mark.s3) for name in FROM_A_BUCKET_TOO],
    indirect=["place"],
)
def test_bad_manifests(place: Place, refused: Refused, name: str) -> None:
    """A manifest that breaks a rule of the format is refused with the number of its line."""
    manifest, number, word = BAD[name]
    package = "bad-" + name.replace(" ", "-")
    place.put_registry(manifest_key(package, TOP_HASH), manifest)
    said = refused(place.reference(f"{package}@{TOP_HASH}"), INVALID, "manifest", word)
    if number:
        assert f"manifest line {number}:" in said


def test_local_files_named_from_a_bucket(place: Place, refused: Refused, tmp_path: Path) -> None:
    """A manifest in a bucket that names files of this machine is refused: it could show what its reader may see."""
    secret = tmp_path / "secret"
    secret.write_text("abc")
    manifest = header() + line("stolen", physical_keys=[f"file://{secret}"])
    place.put_registry(manifest_key("thief", TOP_HASH), manifest)
    if isinstance(place, Bucket):
        refused(place.reference(f"thief@{TOP_HASH}"), INVALID, "manifest line 2:", "file of this machine", str(secret))
    else:  # a registry of this machine's own may, but this one's name is not its hash
        refused(place.reference(f"thief@{TOP_HASH}"), INTEGRITY, TOP_HASH)


def test_a_manifest_under_a_false_name(place: Place, refused: Refused) -> None:
    """A manifest whose content is not the one its top hash names is refused."""
    entries = [file_entry("a", b"1"), file_entry("b", b"2")]
    manifest, name = manifest_of(entries), top_hash_of(entries)
    package = "false-name"
    place.put_registry(manifest_key(package, name), manifest.replace(b'"size": 1', b'"size": 2', 1))
    refused(place.reference(f"{package}@{name}"), INTEGRITY, name, "hashes to", "push the package again")
