"""boto3's requests as we send them: answers within bounds of room and time, refused credentials read again.

Redirects are not followed, nor prepared by urllib3, which fails on a 303: botocore asks another AWS region where a
header names it, and nothing else.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ReadTimeoutError

from fusepkg.errors import RemoteProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client

    from fusepkg.store.s3.credentials import RereadCredentials

ERROR_BYTES = 64 * 1024
"""Most of an error's body that is read; the rest says nothing that matters."""

ANSWER_BYTES = 32 * 1024**2
"""The most that an answer without an object's bytes may hold: a page of 1,000 long keys, escaped, is some 8 MB."""

_BLOCK_BYTES = 64 * 1024

_REDIRECT_AT = 6
"""Where ``redirect`` stands among the arguments of urllib3's ``urlopen``."""

_REFUSED_STATUSES = (401, 403)
_REFUSED_CODES = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId")
_GENERATION = "fusepkg_credentials"


class TimedBody:
    """The body of an answer: reading it after ``deadline`` (monotonic) raises ReadTimeoutError."""

    def __init__(self, raw: Any, url: str, deadline: float) -> None:  # noqa: ANN401 - urllib3's, as botocore has it
        self._raw = raw
        self._url = url
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else botocore asks of a response
        return getattr(self._raw, name)

    def read(self, size: int | None = None) -> bytes:
        """Up to ``size`` bytes, or all, as they come: a body that drips reaches its deadline."""
        blocks: list[bytes] = []
        left = size
        while left != 0 and (block := self._read_some(_BLOCK_BYTES if left is None else min(left, _BLOCK_BYTES))):
            blocks.append(block)
            left = None if left is None else left - len(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def stream(self, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
        """All bytes, in blocks of at most ``block_bytes``."""
        while block := self._read_some(block_bytes):
            yield block

    def _read_some(self, most: int) -> bytes:
        self._check()
        some = getattr(self._raw, "read1", self._raw.read)  # urllib3 below 2.1 reads whole blocks only
        return some(most) or self._raw.read(most)  # type: ignore[no-any-return]  # at the end, read gives the line back

    def _check(self) -> None:
        if time.monotonic() > self._deadline:
            self._raw.close()
            raise ReadTimeoutError(endpoint_url=self._url)


class BoundedBody(TimedBody):
    """One that is read whole, by botocore: no more than ``limit`` bytes. What comes after is left, or refused."""

    def __init__(self, raw: Any, url: str, deadline: float, limit: int, *, refuse: bool) -> None:  # noqa: ANN401
        super().__init__(raw, url, deadline)
        self._limit = limit
        self._refuse = refuse

    def stream(self, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
        """All bytes up to the limit. Raises RemoteProtocol for more, if told to."""
        left = self._limit
        for block in super().stream(block_bytes):
            if len(block) > left:
                self._raw.close()
                if self._refuse:
                    raise RemoteProtocol(
                        f"{self._url.partition('?')[0]} answered more than {self._limit} bytes",
                        hint="Check that the endpoint is an S3 server",
                    )
                yield block[:left]
                return
            left -= len(block)
            yield block


def install(client: S3Client, credentials: RereadCredentials | None, request_timeout_s: float) -> None:
    """Have a client send its requests by this module's rules."""
    events, http = client.meta.events, client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001 - no door

    _leave_redirects(http)

    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:  # noqa: ANN401 - what botocore tells besides
        deadline = time.monotonic() + request_timeout_s
        whole, request.stream_output = not request.stream_output, True
        response: AWSResponse = http.send(request)
        if response.status_code >= 300:
            response.raw = BoundedBody(response.raw, request.url, deadline, ERROR_BYTES, refuse=False)
        elif whole:
            response.raw = BoundedBody(response.raw, request.url, deadline, ANSWER_BYTES, refuse=True)
            response.content  # noqa: B018 - read now, so that a connection that breaks is tried again
        else:
            response.raw = TimedBody(response.raw, request.url, deadline)
        return response

    def note(request: AWSRequest, **_: Any) -> None:  # noqa: ANN401 - what botocore tells besides
        if credentials is not None:
            request.context[_GENERATION] = credentials.generation

    def read_again(response: Any, request_dict: dict[str, Any], **_: Any) -> int | None:  # noqa: ANN401 - botocore's
        """Have a refused request sent again at once if there are other credentials now."""
        if credentials is None or response is None or not is_refusal(response[0].status_code, _code(response[1])):
            return None
        generation = request_dict["context"].get(_GENERATION)
        return 0 if generation is not None and credentials.reread(generation) else None

    def ask_once(response: Any, operation: OperationModel, request_dict: dict[str, Any], **_: Any) -> None:  # noqa: ANN401
        """Keep botocore from asking for a region because it asked for it: a server can have it do so without end."""
        if operation.name == "HeadBucket" and response is not None and not _region(response[1]):
            request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True

    events.register_first("needs-retry.s3", ask_once)
    events.register("before-send.s3", send)  # type: ignore[arg-type]  # the stubs know no answers
    events.register("before-sign.s3", note)
    events.register("needs-retry.s3", read_again)  # type: ignore[arg-type]  # the same


def _leave_redirects(http: Any) -> None:  # noqa: ANN401 - botocore's, without types
    """Have a session hand on redirects as answers like any others."""
    pools: dict[str, type] = http._pool_classes_by_scheme  # noqa: SLF001 - no door; shared with those of proxies
    for scheme, pool in pools.items():

        def urlopen(self: Any, *given: Any, of: Any = pool, **named: Any) -> Any:  # noqa: ANN401 - urllib3's
            if len(given) < _REDIRECT_AT:  # botocore names all arguments, urllib3 repeats what it was given
                named["redirect"] = False
            return of.urlopen(self, *given, **named)

        pools[scheme] = type(pool.__name__, (pool,), {"urlopen": urlopen})


def is_refusal(status: int, code: str) -> bool:
    """Whether an answer may mean that the credentials have ended."""
    return status in _REFUSED_STATUSES or code in _REFUSED_CODES


def _region(parsed: dict[str, Any]) -> str | None:
    """The header by which S3 tells a bucket's region."""
    found = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return found if isinstance(found, str) else None


def _code(parsed: dict[str, Any]) -> str:
    return str(parsed.get("Error", {}).get("Code", ""))
