"""What an S3 server's answers mean, whichever client brought them: refusals in our errors, versions, checksums."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from fusepkg.errors import (
    AccessDenied,
    BucketNotFound,
    ObjectArchived,
    ObjectExists,
    ObjectMissing,
    RemoteProtocol,
    RemoteTimeout,
    RemoteUnavailable,
)
from fusepkg.model.checksums import Checksums
from fusepkg.store.protocol import too_large

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.errors import FusepkgError
    from fusepkg.store.s3.address import Action, Address

_CREDENTIAL_HINTS = {
    "InvalidAccessKeyId": "This endpoint does not know the access key: check AWS_PROFILE, AWS_ACCESS_KEY_ID and the"
    " endpoint",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key: check AWS_SECRET_ACCESS_KEY or the"
    " profile",
    "ExpiredToken": "The session has expired: log in again (for example aws sso login) or renew AWS_SESSION_TOKEN",
    "InvalidToken": "The session token is not valid here: check AWS_SESSION_TOKEN, or unset it for long-lived keys",
    "RequestTimeTooSkewed": "This machine's clock differs from the server's by more than 15 minutes: set it",
}
_CREDENTIAL_CODES = {
    **dict.fromkeys(_CREDENTIAL_HINTS, ""),
    "AccessDenied": "",
    "AllAccessDisabled": "",
    "AccountProblem": "",
    "InvalidClientTokenId": "InvalidAccessKeyId",
    "ExpiredTokenException": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "RequestExpired": "RequestTimeTooSkewed",
}
"""Codes that mean AccessDenied whatever the status, and under which code's hint they go (empty: their own)."""

_DENIED_HINTS: dict[Action, str] = {
    "read": "Check that these credentials may read and list the bucket; a missing object is also answered so where"
    " listing is not allowed",
    "write": "Check that these credentials may write to the bucket (s3:PutObject)",
    "copy": "Check that these credentials may read the object that is copied and write to the bucket (s3:GetObject"
    " there, s3:PutObject here)",
}
_ARCHIVED_HINT = (
    "Restore it for some days (aws s3api restore-object), which takes hours, then try again; or copy it to a storage"
    " class that can be read at once"
)
_MISSING_HINT = "Check who removed it; pushing the same files again puts it back"
_NOT_PUBLIC_HINT = "The request was not signed: leave out --no-sign-request if the bucket is not public"

_BUSY_CODES = frozenset(
    {"NoSuchUpload", "SlowDown", "ServiceUnavailable", "InternalError", "ThrottlingException", "Throttling"}
)
WRONG_REGION_CODES = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect"})
"""How S3 says that a bucket is in another region than was asked."""

UNREACHABLE_HINT = "Check the network and the endpoint (AWS_ENDPOINT_URL_S3)"
TLS_HINT = "Set AWS_CA_BUNDLE for a private certificate authority, or write http:// for an endpoint without TLS"


def answer_error(status: int, code: str, address: Address) -> FusepkgError:
    """The error for an answer that is not a success; ``code`` is S3's word for it, or empty."""
    said = f"{address.server} answered {status}{f' {code}' if code and code != str(status) else ''}"
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return BucketNotFound(
            f"s3://{address.bucket} does not exist at {address.server}",
            hint="Check the name; a bucket of another provider needs AWS_ENDPOINT_URL_S3",
        )
    if code == "InvalidObjectState":
        return ObjectArchived(f"{address.url} is archived: {said}", hint=_ARCHIVED_HINT)
    if code in _CREDENTIAL_CODES or status in (401, 403):
        return AccessDenied(f"{address.url}: {said}", hint=_denied_hint(code, address))
    if code == "RequestTimeout" or status == 408:
        return RemoteTimeout(f"{address.url}: {said}", hint="Try again")
    if code in _BUSY_CODES or status == 429 or status >= 500:
        return RemoteUnavailable(f"{address.url}: {said}, again after retries", hint="Try again later")
    if code in ("NoSuchKey", "NoSuchVersion") or status in (404, 405):
        # 405 is how a GET of a delete marker is refused, the only method we use that an object may not allow.
        return missing(address, said)
    if status in (409, 412):
        return ObjectExists(f"{address.url} exists already: {said}")
    if code in WRONG_REGION_CODES or status in (301, 307):
        return RemoteProtocol(f"{address.url}: {said}", hint="The bucket is in another region: set AWS_REGION")
    return RemoteProtocol(
        f"{address.url}: {said}", hint="Check that the endpoint is an S3 server (AWS_ENDPOINT_URL_S3)"
    )


def missing(address: Address, said: str) -> ObjectMissing:
    """Say that an object is not there, as the server ``said``."""
    return ObjectMissing(f"{address.url} is not there: {said}", hint=_MISSING_HINT)


def check_size(address: Address, size: int, at_most: int) -> None:
    """Raise ObjectTooLarge if an answer has, or will have, more bytes than are accepted."""
    if size > at_most:
        raise too_large(address.url, at_most)


def _denied_hint(code: str, address: Address) -> str:
    if not address.signed:
        return _NOT_PUBLIC_HINT
    return _CREDENTIAL_HINTS.get(_CREDENTIAL_CODES.get(code, "") or code, _DENIED_HINTS[address.action])


# --- fields of answers ---------------------------------------------------------------------------------------

_PARTS = re.compile(r"-([1-9][0-9]{0,4})\"?$")
"""How a checksum or an ETag of an object sent in parts ends."""


def real_version(version: str | None) -> str | None:
    """A version that names these bytes for ever; "null" is what a bucket without versioning may replace."""
    return None if version == "null" else version


def bare_etag(etag: str) -> str:
    """An ETag without its quotes, which Ceph leaves out in some answers."""
    return etag.strip('"')


def checksums_of(answer: Mapping[str, Any]) -> Checksums | None:
    """Checksums of an object from the answer to a HEAD or a copy; None where it tells none that we know."""
    told = str(answer.get("ChecksumSHA256") or "")
    cut = _PARTS.search(told)
    sha256 = _decoded(told[: cut.start()] if cut else told, 32)
    crc64nvme = _decoded(str(answer.get("ChecksumCRC64NVME") or ""), 8)
    if sha256 is None and crc64nvme is None:
        return None
    if cut is None and answer.get("ChecksumType") != "FULL_OBJECT":
        cut = _PARTS.search(str(answer.get("ETag") or ""))  # some servers say only there that it was sent in parts
    return Checksums(sha256, int(cut[1]) if cut else 0, crc64nvme)


def _decoded(text: str, length: int) -> bytes | None:
    try:
        value = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return value if len(value) == length else None
