"""Requests to one bucket by our own HTTP client: addressed, signed, tried again, and refused in our words."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from fusepkg.errors import AccessDenied, RemoteProtocol, RemoteTimeout, RemoteUnavailable, UsageError
from fusepkg.store.s3.answers import TLS_HINT, UNREACHABLE_HINT, WRONG_REGION_CODES, answer_error
from fusepkg.store.s3.botocore import translated
from fusepkg.store.s3.http.answer import ExchangeFailure, Room
from fusepkg.store.s3.http.connection import Limits
from fusepkg.store.s3.http.loop import in_thread, running_loop
from fusepkg.store.s3.http.pool import ConnectionPool
from fusepkg.store.s3.http.route import route_to
from fusepkg.store.s3.http.signing import NO_BODY_SHA256, Keys, Signer
from fusepkg.store.s3.transport import ERROR_BYTES, is_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.credentials import ReadOnlyCredentials

    from fusepkg.errors import FusepkgError
    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.botocore import ClientSetup
    from fusepkg.store.s3.http.answer import Accept, Answer
    from fusepkg.store.s3.settings import S3Settings

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 3.0

_UNSIGNED = "user-agent: fusepkg\r\naccept-encoding: identity\r\n"
"""Headers of every request that are not signed: bytes are wanted as they lie."""

_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_HEADER = re.compile(r"[ -~]*")
"""Values that a header can carry."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request about an object. ``final`` are the statuses that are an answer; every other is an error.

    ``headers`` have names in lower case, and printable ASCII values.
    """

    method: str
    address: Address
    version: str | None
    headers: Mapping[str, str]
    final: frozenset[int]
    accept: Accept
    body: bytes = b""
    body_sha256: str = field(default=NO_BODY_SHA256)


class RefusedAnswer(Exception):
    """A server's refusal: its status, S3's word for it, and whether an earlier try may have done its work."""

    def __init__(self, status: int, code: str, *, retried: bool) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.retried = retried

    @property
    def may_be_elsewhere(self) -> bool:
        """Whether the bucket may be in another region than was asked."""
        return self.status in (301, 307) or self.code in WRONG_REGION_CODES


class Exchange:
    """Requests to one bucket over connections of its own, which are closed when nobody holds it any more.

    To be used on the loop. Credentials are renewed where they say when they end, and read again once they are refused.
    """

    def __init__(self, bucket: str, settings: S3Settings, connection: ClientSetup) -> None:
        self._settings = settings
        self._credentials = connection.credentials
        self._signer = Signer(connection.region)
        self._renewal: asyncio.Future[ReadOnlyCredentials] | None = None
        self._last: tuple[ReadOnlyCredentials | None, Keys] = (None, Keys("", ""))
        parts = urlsplit(connection.endpoint)
        path = parts.path.rstrip("/")
        netloc = parts.netloc.rpartition("@")[2]
        url = f"{parts.scheme}://{bucket}.{netloc}" if connection.virtual else f"{parts.scheme}://{netloc}"
        self._prefix = f"{path}/" if connection.virtual else f"{path}/{bucket}/"
        try:
            route = route_to(url, connection.proxy, connection.certificates)
        except (ValueError, OSError) as exc:
            raise UsageError(
                f"{bucket} cannot be reached: {exc}", hint="Check AWS_ENDPOINT_URL_S3, AWS_CA_BUNDLE and HTTPS_PROXY"
            ) from exc
        self._host = route.authority
        self._origin = f"http://{route.authority}" if route.forwarded else ""
        self._proxy_authorization = route.proxy.authorization if route.proxy and route.forwarded else ""
        limits = Limits(settings.connect_timeout_s, settings.read_timeout_s, settings.request_timeout_s)
        self._pool = ConnectionPool(route, limits)
        weakref.finalize(self, _close, os.getpid(), running_loop(), self._pool).atexit = False

    async def ask(self, request: Request) -> Answer:
        """Send a request until it is answered, ``attempts`` times at most. Cancelling it closes the connection.

        Raises our errors; one that stands for a server's refusal has a ``RefusedAnswer`` as its cause.
        """
        path = self._path(request.address)
        failures = renewals = 0
        fresh = retried = False
        while True:
            generation = self._credentials.generation if self._credentials else 0
            cause: BaseException | None
            error: FusepkgError
            try:
                answer = await self._ask_once(request, path, fresh=fresh)
            except ExchangeFailure as failure:
                retried = retried or failure.kind in ("silence", "broken", "garbage")
                if failure.stale and not fresh:
                    fresh = True  # the server had closed a kept connection: that is no failure
                    continue
                cause, error = failure, _failed(failure, request.address)
            except RemoteProtocol as exc:  # such as another range than was asked for
                cause, error = exc.__cause__, exc
            else:
                if answer.status in request.final:
                    return answer
                found = _CODE.search(answer.body)
                refused = RefusedAnswer(answer.status, found[1].decode() if found else "", retried=retried)
                if await self._has_other_keys(refused, generation) and renewals < self._settings.attempts:
                    renewals += 1
                    continue
                cause, error = refused, answer_error(refused.status, refused.code, request.address)
                if not isinstance(error, RemoteUnavailable):
                    raise error from cause
                retried = True
            failures += 1
            if failures >= self._settings.attempts:
                raise error from cause
            most = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 3 ** (failures - 1))
            await asyncio.sleep(most * random.uniform(0.5, 1))

    async def _ask_once(self, request: Request, path: str, *, fresh: bool) -> Answer:
        query = "" if request.version is None else f"versionId={quote(request.version, safe='-_.~')}"
        headers = {"host": self._host, **request.headers}
        if self._credentials is not None:
            keys = await self._keys(request.address)
            headers = self._signer.sign(keys, request.method, path, query, headers, request.body_sha256, time.time())
        if self._proxy_authorization:
            headers["proxy-authorization"] = self._proxy_authorization
        if request.body or request.method == "PUT":
            headers["content-length"] = str(len(request.body))
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        target = f"{self._origin}{path}?{query}" if query else f"{self._origin}{path}"
        head = f"{request.method} {target} HTTP/1.1\r\n{''.join(lines)}{_UNSIGNED}\r\n".encode("ascii")
        return await self._pool.ask(head, request.body, request.accept, fresh=fresh)

    def _path(self, address: Address) -> str:
        try:
            return quote(self._prefix + address.key, safe="/-_.~")
        except UnicodeEncodeError as exc:
            raise RemoteProtocol(
                f"s3://{address.bucket}: no object can have the key {address.key!a}", hint="Keys are UTF-8"
            ) from exc

    # --- credentials -----------------------------------------------------------------------------------------

    async def _keys(self, address: Address) -> Keys:
        """The keys to sign with, renewed where that is due. Raises AccessDenied."""
        credentials = self._credentials
        assert credentials is not None
        if credentials.must_renew():
            with translated(address):
                found = await self._renewed()
        else:
            found = credentials.get_frozen_credentials()
        if found != self._last[0]:
            keys = Keys(found.access_key or "", found.secret_key or "", found.token or "")
            if not _HEADER.fullmatch(keys.access_key) or not _HEADER.fullmatch(keys.token):
                raise AccessDenied(
                    f"{address.url}: the access key or session token holds characters that cannot be sent",
                    hint="Check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or the profile, for line breaks",
                )
            self._last = found, keys
        return self._last[1]

    async def _renewed(self) -> ReadOnlyCredentials:
        """Renew the credentials once for all requests that wait for it: that may run a program, or ask a server."""
        assert self._credentials is not None
        if self._renewal is None:
            self._renewal = asyncio.ensure_future(in_thread(self._credentials.get_frozen_credentials))
            self._renewal.add_done_callback(self._end_renewal)
        return await asyncio.shield(self._renewal)

    def _end_renewal(self, renewal: asyncio.Future[ReadOnlyCredentials]) -> None:
        self._renewal = None
        if not renewal.cancelled():
            renewal.exception()  # those who waited have it; there may be none left

    async def _has_other_keys(self, refused: RefusedAnswer, generation: int) -> bool:
        """Whether a refusal may be about credentials, and there are others now than those of that generation."""
        if self._credentials is None or not is_refusal(refused.status, refused.code):
            return False
        return await in_thread(self._credentials.reread, generation)


def error_room() -> Room:
    """Return the room for an error's body: what comes after says nothing that matters."""
    return Room(ERROR_BYTES, cut=True)


def _close(pid: int, loop: asyncio.AbstractEventLoop, pool: ConnectionPool) -> None:
    """Close the connections of a bucket that is held no more; a forked child's copies are not its own."""
    if os.getpid() == pid:
        loop.call_soon_threadsafe(pool.close)


def _failed(failure: ExchangeFailure, address: Address) -> FusepkgError:
    """Say in our words that no whole answer came."""
    place, said = f"{address.url} at {address.server}", str(failure)
    if failure.kind == "connect timeout":
        return RemoteTimeout(f"{place}: no connection in time", hint=UNREACHABLE_HINT)
    if failure.kind == "silence":
        return RemoteTimeout(f"{place}: no answer in time", hint="Try again")
    if failure.kind == "connect":
        return RemoteUnavailable(f"{place}: the endpoint cannot be reached: {said}", hint=UNREACHABLE_HINT)
    if failure.kind == "proxy":
        return RemoteUnavailable(
            f"{place}: the HTTP proxy does not let us through: {said}",
            hint="Check HTTPS_PROXY and HTTP_PROXY, or name the endpoint in NO_PROXY",
        )
    if failure.kind == "tls":
        return RemoteUnavailable(
            f"{place}: the connection cannot be secured: {said}",
            hint=TLS_HINT,
        )
    if failure.kind == "garbage":
        return RemoteProtocol(f"{place}: no valid HTTP answer: {said}", hint="Check that the endpoint is an S3 server")
    return RemoteUnavailable(f"{place}: the connection broke", hint="Try again")
