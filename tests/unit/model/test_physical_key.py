from __future__ import annotations

import warnings

import pytest

from fusepkg.errors import ManifestInvalid
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key


@pytest.mark.parametrize(
    ("key", "url"),
    [
        (PhysicalKey("s3", "b", "a b/c+d%e#f?é~-._"), "s3://b/a%20b/c%2Bd%25e%23f%3F%C3%A9~-._"),
        (PhysicalKey("s3", "b", "/leading"), "s3://b//leading"),
        (PhysicalKey("s3", "b", "k", "a b+/&="), "s3://b/k?versionId=a+b%2B%2F%26%3D"),
        (PhysicalKey("s3", "b", "k", "null"), "s3://b/k?versionId=null"),
        (PhysicalKey("file", "", "/a b/é"), "file:///a%20b/%C3%A9"),
    ],
)
def test_urls_are_written_and_read_as_quilt3_does(key: PhysicalKey, url: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        from quilt3.util import PhysicalKey as QuiltKey
    assert str(key) == url
    assert parse_physical_key(url) == key
    theirs = QuiltKey.from_url(url)
    assert (theirs.path, theirs.version_id) == (key.key, key.version)
    assert str(theirs) == url


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("s3://b/a+b", "a+b"),
        ("s3://b/bad%zz", "bad%zz"),
        ("s3://b/cut#fragment", "cut"),
        ("s3://b/k?versionId=", "k"),
        ("file://localhost/a", "/a"),
    ],
)
def test_odd_urls_are_read_leniently(url: str, key: str) -> None:
    parsed = parse_physical_key(url)
    assert (parsed.key, parsed.version) == (key, None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "http://b/k",
        "s3://b",
        "s3://b/",
        "s3:///k",
        "s3://b/k?other=1",
        "s3://[/k",
        "s3://b/a\nb",
        "s3://b/a\tb",
        "s3://b/\ud800",
        "file://host/a",
        "file:///a?versionId=1",
        "file:relative",
        "file:///a%00b",
        "s3://a b/k",
        "s3://-b/k",
        "s3://.hidden/k",
        "s3://user:secret@host/k",
        "s3://b:80/k",
        "s3://é/k",
        "s3://" + "b" * 256 + "/k",
        "s3://b/a%00b",
        "s3://b/%ff",
        "s3://b/%ed%a0%80",
        "s3://b/" + "k" * 4097,
        "s3://b/" + "%20" * 4097,
        "s3://b/k?versionId=%0d%0aHost:x",
        "s3://b/k?versionId=%ff",
        "s3://b/k?versionId=" + "v" * 1025,
        "file:///" + "a/" * 2048,
        "s3://b/k\x7f",
    ],
)
def test_what_names_no_object_is_refused(url: str) -> None:
    with pytest.raises(ManifestInvalid):
        parse_physical_key(url)


def test_messages_about_absurd_keys_are_short() -> None:
    with pytest.raises(ManifestInvalid) as caught:
        parse_physical_key("s3://" + "b" * 1_000_000 + "/k")
    assert len(str(caught.value)) < 500
