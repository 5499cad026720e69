"""obstore at the border: the fast GET and the fast small PUT, and its exceptions in our words.

obstore takes a tenth of boto3's CPU per request and runs without the interpreter lock, but says little when something
is wrong. Whatever it does not say clearly is ``Unclear``, and the caller asks again through boto3, whose errors have
structure.
"""

from __future__ import annotations

import os
import re
import threading
from asyncio import CancelledError
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as ObstoreS3

from fusepkg.errors import FusepkgError, ObjectExists, RemoteTimeout, RemoteUnavailable
from fusepkg.store.s3.answers import answer_error, check_size, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, S3Config, S3Credential, S3CredentialProvider

    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.botocore import Connection
    from fusepkg.store.s3.credentials import RereadCredentials
    from fusepkg.store.s3.settings import S3Settings

CREDENTIAL_LIFE = timedelta(seconds=60)
"""How long obstore may keep credentials before it asks again; botocore renews them 10 minutes before they end."""

FIRST_BACKOFF = timedelta(milliseconds=200)
LONGEST_BACKOFF = timedelta(seconds=3)

_Result = TypeVar("_Result")

_UNFIT = re.compile(r"[\x00-\x1f\x7f]|^/|/$|//|(^|/)\.\.?(/|$)|^$")
"""Keys obstore's paths refuse or change: control characters, empty parts, ``.`` and ``..``."""

_DEAD_PROXY = "127.0.0.1:0"
"""An address that cannot be connected to: nothing can listen on port 0."""

_PANICS = ("PanicException", "RustPanic")
"""Exceptions by which Rust's panics arrive, in a blocking call and on a loop; neither can be imported."""

_runtime_pid: int | None = None
"""The process in which obstore started its threads. They do not survive fork, and a child's call would wait for them
for ever; a child of a process that has used obstore goes through boto3."""


class Unclear(Exception):
    """obstore failed without details: nothing was read; a write may or may not have been made."""

    @property
    def wrong_region(self) -> bool:
        """Whether the bucket seems to be in another region than we asked."""
        return "redirect" in str(self) or "AuthorizationHeaderMalformed" in str(self)


def can_name(key: str) -> bool:
    """Whether obstore asks for exactly this key."""
    return not _UNFIT.search(key)


def runs_here() -> bool:
    """Whether obstore works in this process."""
    return _runtime_pid in (None, os.getpid())


def may_send_credentials(connection: Connection) -> bool:
    """Whether a redirect to another port of the host cannot give a session token away. May read a credentials file."""
    if connection.credentials is None or not connection.endpoint.startswith("http://"):
        return True
    return not connection.credentials.get_frozen_credentials().token


class Reader:
    """GETs from one bucket; safe to use from many threads."""

    def __init__(self, bucket: str, settings: S3Settings, connection: Connection) -> None:
        self._store = _client(bucket, settings, connection, attempts=settings.attempts)

    def get(self, address: Address, version: str | None, offset: int, length: int | None, at_most: int) -> bytes:
        """Bytes of one object, in the calling thread; ``length`` is not 0. Raises our errors, or Unclear."""
        options = _get_options(version, offset, length)

        def ask() -> tuple[GetResult, bytes]:
            answer = obstore.get(self._store, address.key, options=options)
            if length is None:
                check_size(address, answer.meta["size"] - offset, at_most)
            return answer, answer.bytes().to_bytes()

        try:
            answer, data = interruptible(ask)
        except FusepkgError:
            raise
        except BaseException as exc:  # noqa: BLE001 - raised again, in our words
            return _failed_get(exc, address)
        return _checked(answer, data, offset, length)

    async def get_async(self, address: Address, version: str | None, offset: int, length: int) -> bytes:
        """Bytes of one object, on an asyncio loop; ``length`` is not 0. Raises our errors, or Unclear."""
        try:
            answer = await obstore.get_async(self._store, address.key, options=_get_options(version, offset, length))
            data = (await answer.bytes_async()).to_bytes()
        except CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001 - raised again, in our words
            return _failed_get(exc, address)
        return _checked(answer, data, offset, length)


def _get_options(version: str | None, offset: int, length: int | None) -> GetOptions:
    options: GetOptions = {}
    if version is not None:
        options["version"] = version
    if length is not None:
        options["range"] = (offset, offset + length)
    elif offset:
        options["range"] = {"offset": offset}
    return options


def _failed_get(exc: BaseException, address: Address) -> bytes:
    """Empty where a range starts at or past the object's end; else raises, panics of the library included."""
    if isinstance(exc, BaseError | ValueError | FileNotFoundError):
        if not isinstance(exc, FileNotFoundError) and _status(str(exc)) == 416:
            return b""
        raise _translate(exc, address) from exc
    raise _unless_panic(exc)


def _unless_panic(exc: BaseException) -> BaseException:
    """Unclear for a panic of the Rust library, which is no Exception where it blocks; else the same."""
    if type(exc).__name__ not in _PANICS:
        return exc
    unclear = Unclear(f"obstore failed: {str(exc)[:200]}")
    unclear.__cause__ = exc
    return unclear


def _checked(answer: GetResult, data: bytes, offset: int, length: int | None) -> bytes:
    first, end = answer.range
    if first != offset or len(data) != end - first or (length is not None and len(data) > length):
        raise Unclear(f"asked for {offset}+{length}, got {first}-{end}, {len(data)} bytes")
    return data


def interruptible(call: Callable[[], _Result]) -> _Result:
    """Make a call that waits in Rust, where Ctrl-C is not heard: the main thread waits for another that makes it."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    outcome: Future[_Result] = Future()

    def make() -> None:
        try:
            outcome.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - raised in the main thread
            outcome.set_exception(exc)

    threading.Thread(target=make, name="obstore-call", daemon=True).start()
    return outcome.result()


class Creator:
    """PUTs of small objects under free keys of one bucket, in the calling thread; safe to use from many.

    It tries once: a create that is repeated after a lost answer meets its own object, and only the caller can tell.
    """

    def __init__(self, bucket: str, settings: S3Settings, connection: Connection) -> None:
        self._store = _client(bucket, settings, connection, attempts=1)

    def create(self, address: Address, data: bytes, metadata: Mapping[str, str]) -> str | None:
        """Create one object if its key is free; its version. Raises ObjectExists, Unclear."""
        try:
            answer = interruptible(
                lambda: obstore.put(
                    self._store, address.key, data, mode="create", attributes=dict(metadata), use_multipart=False
                )
            )
        except AlreadyExistsError as exc:
            if "PreconditionFailed" not in str(exc) and _status(str(exc)) != 412:
                raise Unclear(str(exc).partition("\n")[0]) from exc  # 409 asks for another try
            raise ObjectExists(f"{address.url} exists already: {address.server} refused to replace it") from exc
        except (BaseError, ValueError, FileNotFoundError) as exc:
            raise Unclear(str(exc).partition("\n")[0]) from exc
        except BaseException as exc:
            raise _unless_panic(exc) from exc
        return answer["version"]


def _client(bucket: str, settings: S3Settings, connection: Connection, *, attempts: int) -> ObstoreS3:
    global _runtime_pid
    _runtime_pid = os.getpid()
    credentials = connection.credentials
    return ObstoreS3(
        config=_config(bucket, connection),
        client_options=_client_options(bucket, settings, connection),
        retry_config={
            "max_retries": attempts - 1,
            "retry_timeout": timedelta(seconds=settings.connect_timeout_s * attempts),
            "backoff": {"init_backoff": FIRST_BACKOFF, "max_backoff": LONGEST_BACKOFF, "base": 3},
        },
        credential_provider=_provider(connection, credentials) if credentials else None,
    )


def _config(bucket: str, connection: Connection) -> S3Config:
    # Every setting that obstore would otherwise take from the environment by rules of its own is given.
    endpoint = _endpoint(bucket, connection)
    return {
        "bucket": bucket,
        "region": connection.region,
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "virtual_hosted_style_request": connection.virtual,
        "skip_signature": connection.credentials is None,
        "checksum_algorithm": "SHA256",  # of PUTs: S3 checks it, and tells it ever after
    }


def _endpoint(bucket: str, connection: Connection) -> str:
    if not connection.virtual:
        return connection.endpoint
    parts = urlsplit(connection.endpoint)
    return f"{parts.scheme}://{bucket}.{parts.netloc}"


def _client_options(bucket: str, settings: S3Settings, connection: Connection) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": connection.endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        "read_timeout": timedelta(seconds=settings.read_timeout_s),
        "timeout": timedelta(seconds=settings.request_timeout_s),
        # obstore follows redirects, session token included: all hosts but the endpoint's lie behind a dead proxy.
        "proxy_url": f"http://{_DEAD_PROXY}",
        "proxy_excludes": urlsplit(_endpoint(bucket, connection)).hostname or "",
    }
    if connection.certificates is not None:
        options["root_certificate"] = connection.certificates
    return options


def _provider(connection: Connection, credentials: RereadCredentials) -> S3CredentialProvider:
    def provide() -> S3Credential:
        if not may_send_credentials(connection):  # there was no token when this client was made
            raise ValueError("a session token is not sent over http by this client")
        frozen = credentials.get_frozen_credentials()  # renews them where they can be renewed
        return {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIAL_LIFE,
        }

    return provide


# --- reading the text of errors ------------------------------------------------------------------------------

_STATUS = re.compile(r"Server returned non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_SYSTEM_WORDS = re.compile(r'(?:message|error): "([^"\\\n]{1,200})"')


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(found[1]) if found else 0


def _translate(exc: Exception, address: Address) -> FusepkgError | Unclear:
    """Read obstore's text: a headline with the answer, then a dump of the Rust error."""
    text = str(exc)
    if _DEAD_PROXY in text:
        return Unclear("a redirect to another host")
    status, code = _status(text), _CODE.search(text)
    if code:
        return answer_error(status, code[1], address) if status != 400 else Unclear(code[1])
    if isinstance(exc, FileNotFoundError):
        return missing(address, f"{address.server} answered 404")
    if status == 403 or status == 408 or status == 429 or status >= 500:
        return answer_error(status, "", address)
    if "TimedOut" in text or "kind: Timeout" in text:
        return RemoteTimeout(f"{address.url} at {address.server}: no answer in time", hint="Try again")
    if "HttpError" in text:
        words = _SYSTEM_WORDS.search(text)
        return RemoteUnavailable(
            f"{address.url} at {address.server}: {words[1] if words else 'the connection broke'}",
            hint="Check the network and the endpoint (AWS_ENDPOINT_URL_S3)",
        )
    return Unclear(text.partition("\n")[0])
