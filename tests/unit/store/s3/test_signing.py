"""Our signatures are botocore's, whatever the key, the headers and the credentials."""

from __future__ import annotations

import datetime
from urllib.parse import quote

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.store.s3.http.signing import NO_BODY_SHA256, Keys, Signer

printable = st.lists(st.sampled_from([" ", "   ", "a", "b;c", '"', "%20", "~"])).map("".join).map(str.strip)
words = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
names = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-"), min_size=1).map("x-amz-meta-{}".format)
instants = st.integers(0, 4_000_000_000)


def botocores(
    keys: Keys, method: str, url: str, headers: dict[str, str], body: bytes, now: float, region: str
) -> dict[str, str]:
    """The headers that botocore would send."""
    request = AWSRequest(method=method, url=url, headers=headers, data=body)
    signer = auth.S3SigV4Auth(Credentials(keys.access_key, keys.secret_key, keys.token or None), "s3", region)
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda *_, **__: moment)
        signer.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    keys=st.builds(Keys, words, words, st.one_of(st.just(""), words)),
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    version=st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)),
    more=st.dictionaries(names, printable),
    ranged=st.booleans(),
    put=st.booleans(),
    moments=st.lists(instants, min_size=1, max_size=3),
    region=st.sampled_from(["us-east-1", "eu-west-1", "garage"]),
)
def test_signatures_are_botocores(
    keys: Keys,
    key: str,
    version: str | None,
    more: dict[str, str],
    ranged: bool,
    put: bool,
    moments: list[int],
    region: str,
) -> None:
    signer = Signer(region)  # one for all moments: it keeps what it derived
    path = quote(f"/bucket/{key}", safe="/-_.~")
    query = "" if version is None else f"versionId={quote(version, safe='-_.~')}"
    headers = {"host": "example.com:9000", **more, **({"range": "bytes=5-9"} if ranged else {})}
    body, digest = (b"", NO_BODY_SHA256)
    if put:
        body, digest = b"hello", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    url = f"http://example.com:9000{path}{'?' if query else ''}{query}"
    for now in moments:
        ours = signer.sign(keys, "PUT" if put else "GET", path, query, headers, digest, now)
        assert ours == botocores(keys, "PUT" if put else "GET", url, headers, body, now, region)


def test_another_secret_or_day_is_another_signature() -> None:
    signer = Signer("us-east-1")

    def sign(secret: str, now: float) -> str:
        keys = Keys("a", secret)
        return signer.sign(keys, "GET", "/k", "", {"host": "h"}, NO_BODY_SHA256, now)["authorization"]

    first = sign("one", 0)
    assert len({first, sign("two", 0), sign("one", 86_400), sign("one", 1)}) == 4
    assert sign("one", 0) == first
