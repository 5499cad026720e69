from __future__ import annotations

import pytest

from fusepkg.errors import (
    AccessDenied,
    BucketNotFound,
    FusepkgError,
    ObjectExists,
    ObjectMissing,
    RemoteProtocol,
    RemoteTimeout,
    RemoteUnavailable,
)
from fusepkg.store.s3.address import Address
from fusepkg.store.s3.answers import answer_error

ADDRESS = Address("bucket", "some/key", "http://user:password@lab:9000/")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "NoSuchBucket", BucketNotFound),
        (404, "NoSuchKey", ObjectMissing),
        (404, "NoSuchVersion", ObjectMissing),
        (404, "404", ObjectMissing),
        (404, "", ObjectMissing),
        (405, "MethodNotAllowed", ObjectMissing),
        (400, "ExpiredToken", AccessDenied),
        (400, "InvalidToken", AccessDenied),
        (401, "", AccessDenied),
        (403, "403", AccessDenied),
        (403, "AnythingNew", AccessDenied),
        (409, "ConditionalRequestConflict", ObjectExists),
        (412, "PreconditionFailed", ObjectExists),
        (400, "RequestTimeout", RemoteTimeout),
        (408, "", RemoteTimeout),
        (429, "", RemoteUnavailable),
        (500, "", RemoteUnavailable),
        (503, "SlowDown", RemoteUnavailable),
        (404, "NoSuchUpload", RemoteUnavailable),
        (301, "PermanentRedirect", RemoteProtocol),
        (400, "InvalidArgument", RemoteProtocol),
        (0, "", RemoteProtocol),
    ],
)
def test_what_an_answer_means(status: int, code: str, error: type[FusepkgError]) -> None:
    found = answer_error(status, code, ADDRESS)
    assert type(found) is error
    assert "s3://bucket" in found.message
    assert "http://lab:9000" in found.message
    assert "password" not in str(found)


def test_every_denial_has_a_hint() -> None:
    for code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AccessDenied", "", "New"):
        assert answer_error(403, code, ADDRESS).hint
    assert "log in" in answer_error(400, "ExpiredTokenException", ADDRESS).hint
    assert "--no-sign-request" in answer_error(403, "AccessDenied", Address("b", "k", "https://s3", False)).hint
