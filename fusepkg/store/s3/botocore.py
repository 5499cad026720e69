"""boto3 at the border: how a client is set up, and botocore's exceptions in our words.

Set up are credentials, endpoint, addressing, checksums and retries.
"""

from __future__ import annotations

import ipaddress
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.loaders
import botocore.session
from botocore import UNSIGNED
from botocore import exceptions as boto
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.utils import check_dns_name, get_environ_proxies

from fusepkg.errors import (
    AccessDenied,
    CredentialsMissing,
    RemoteProtocol,
    RemoteTimeout,
    RemoteUnavailable,
    UsageError,
)
from fusepkg.store.s3 import transport
from fusepkg.store.s3.answers import TLS_HINT, UNREACHABLE_HINT, answer_error
from fusepkg.store.s3.credentials import RereadCredentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

    from fusepkg.errors import FusepkgError
    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.settings import S3Settings

FALLBACK_REGION = "us-east-1"
"""Where no source names a region: S3 redirects from here, and other servers do not look at it."""

POOL_CONNECTIONS = 64
"""Idle connections kept; more threads than this still work, over connections closed after use."""

_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """A client and what was decided while making it, for our own HTTP client too.

    ``credentials`` is None for unsigned requests. ``certificates`` is a PEM file of authorities. With ``virtual`` the
    bucket is part of the host's name, else of the path. ``proxy`` is the URL of the proxy to use, if any.
    """

    client: S3Client
    credentials: RereadCredentials | None
    endpoint: str
    region: str
    virtual: bool
    certificates: str
    proxy: str | None

    @property
    def is_aws(self) -> bool:
        """Whether S3 itself answers, and not another server that speaks its protocol."""
        return is_aws_endpoint(self.endpoint)


def is_aws_endpoint(endpoint: str) -> bool:
    """Whether a URL is one of AWS's own."""
    return (urlsplit(endpoint).hostname or "").endswith(_AWS_HOSTS)


def connect(settings: S3Settings, address: Address) -> ClientSetup:
    """Make a client from the settings and, where they say nothing, from AWS's own sources."""
    with translated(address):
        core = botocore.session.Session(profile=settings.profile)
        core.register_component("data_loader", _loader(core.get_config_variable("data_path") or ""))
        region = settings.region or core.get_config_variable("region") or FALLBACK_REGION
        bundle = core.get_config_variable("ca_bundle")
        if bundle:
            _check_certificates(bundle)
        credentials = _load_credentials(core, settings.profile) if settings.sign else None
        session = boto3.Session(botocore_session=core)
        # The endpoint is known only once a client is made, and a custom one needs another client: guess first.
        custom = bool(settings.endpoint_url) or any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)
        style = _addressing_style(core)
        client = _make_client(session, settings, region, style or ("path" if custom else "auto"), custom)
        endpoint = client.meta.endpoint_url
        if not custom and not is_aws_endpoint(endpoint):
            custom = True
            client = _make_client(session, settings, region, style or "path", custom)
        transport.install(client, credentials, settings.request_timeout_s)
        virtual = style != "path" and (style == "virtual" or not custom) and _can_be_host(address.bucket, endpoint)
        certificates = bundle or os.environ.get("REQUESTS_CA_BUNDLE") or str(get_cert_path(True))
        proxy = get_environ_proxies(endpoint).get(urlsplit(endpoint).scheme)
    return ClientSetup(client, credentials, endpoint, region, virtual, certificates, proxy)


@lru_cache(maxsize=4)
def _loader(search_path: str) -> botocore.loaders.Loader:
    """Return what reads botocore's descriptions of services: megabytes of JSON, parsed once in a process."""
    return botocore.loaders.create_loader(search_path or None)


def load_descriptions() -> None:
    """Have botocore load and prepare what every client of this process needs: most of the work of the first one.

    Asks nobody, and looks for no credentials. A failure is that of the first client, which tells.
    """
    with suppress(boto.BotoCoreError, ValueError):
        core = botocore.session.Session()
        core.register_component("data_loader", _loader(core.get_config_variable("data_path") or ""))
        session = boto3.Session("none", "none", botocore_session=core)
        session.client("s3", region_name=FALLBACK_REGION, endpoint_url="http://127.0.0.1").close()


def _load_credentials(core: botocore.session.Session, profile: str | None) -> RereadCredentials:
    found = core.get_credentials()
    if found is None:
        raise boto.NoCredentialsError
    credentials = RereadCredentials(profile, found)
    core._credentials = credentials  # type: ignore[attr-defined]  # noqa: SLF001 - its setter takes keys only
    return credentials


def _check_certificates(bundle: str) -> None:
    """Raise UsageError where a file of certificates holds none that can be used."""
    try:
        content = Path(bundle).read_bytes()
    except OSError as exc:
        words = f"the certificates in {bundle} cannot be read: {exc.strerror}"
        raise UsageError(words, hint="Check AWS_CA_BUNDLE") from exc
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise UsageError(
            f"{bundle} holds no certificate in PEM form",
            hint=f"If it is DER, convert it: openssl x509 -inform der -in {bundle} -out ca.pem, then set AWS_CA_BUNDLE",
        )


def _addressing_style(core: botocore.session.Session) -> str | None:
    """``path`` or ``virtual`` where the profile says so (``addressing_style`` below ``s3``)."""
    said = core.get_scoped_config().get("s3")
    style = said.get("addressing_style") if isinstance(said, dict) else None
    return style if style in ("path", "virtual") else None


def _can_be_host(bucket: str, endpoint: str) -> bool:
    """Whether a bucket's name can be part of the host's: botocore's own rule."""
    parts = urlsplit(endpoint)
    try:
        ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        dots_fit = parts.scheme == "http"  # a certificate does not cover a bucket's name with dots
        return check_dns_name(bucket) and (dots_fit or "." not in bucket)
    return False


def _make_client(session: boto3.Session, settings: S3Settings, region: str, style: str, custom: bool) -> S3Client:
    config = Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        max_pool_connections=POOL_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        tcp_keepalive=True,
        s3={"addressing_style": style},  # type: ignore[arg-type]  # one of three words
    )
    if not settings.sign:
        config = config.merge(Config(signature_version=UNSIGNED))
    if custom:
        # Many servers store the frame of botocore's default trailing checksums (aws-chunked) as if it were the object,
        # or answer 501: no checksums that nobody asked for. AWS keeps them: there they guard the upload end to end.
        config = config.merge(
            Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
        )
    return session.client("s3", region_name=region, endpoint_url=settings.endpoint_url, config=config)


def bucket_region(client: S3Client, bucket: str) -> str | None:
    """The region of a bucket, which AWS tells even where it denies everything else."""
    try:
        headers = client.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    except boto.ClientError as exc:
        headers = exc.response["ResponseMetadata"]["HTTPHeaders"]
    except boto.BotoCoreError:
        return None
    return headers.get("x-amz-bucket-region")


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Raise botocore's exceptions as ours."""
    try:
        yield
    except (boto.ClientError, boto.BotoCoreError) as exc:
        raise translate(exc, address) from exc
    except JSONDecodeError as exc:  # botocore reads what credential programs write without a check
        raise AccessDenied(f"{address.url}: a credential program did not write JSON", hint=_LOGIN_HINT) from exc
    except ValueError as exc:
        if "endpoint" not in str(exc):
            raise
        raise UsageError(f"{address.server} is not an endpoint", hint="Write http://host:port or https://host") from exc


def open_object(client: S3Client, address: Address, names: dict[str, Any]) -> GetObjectOutputTypeDef | None:
    """Answer of a GetObject, its body not yet read; None where the range asked for starts past the object's end."""
    with translated(address):
        try:
            return client.get_object(**names)
        except boto.ClientError as exc:
            if exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 416:
                return None
            raise


def error_code(exc: boto.ClientError) -> str:
    """S3's word for what went wrong."""
    return exc.response.get("Error", {}).get("Code", "")


def was_retried(exc: boto.ClientError) -> bool:
    """Whether an earlier try of the same request may have done its work and only its answer was lost."""
    return exc.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


def translate(exc: boto.ClientError | boto.BotoCoreError, address: Address) -> FusepkgError:
    """One of botocore's exceptions as one of ours; the most specific class wins."""
    if isinstance(exc, boto.ClientError):
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return answer_error(status, error_code(exc), address)
    for classes, error, words, hint in _TABLE:
        if isinstance(exc, classes):
            return error(f"{address.url} at {address.server}: {words.format(exc=exc)}", hint=hint)
    return RemoteProtocol(f"{address.url} at {address.server}: {exc}")


_LOGIN_HINT = "Log in again, for example aws sso login, or check the profile"

_TABLE: tuple[tuple[tuple[type[Exception], ...], type[FusepkgError], str, str], ...] = (
    (
        (boto.NoCredentialsError,),
        CredentialsMissing,
        "no credentials found",
        "Run aws configure, set AWS_PROFILE, or use --no-sign-request for public data",
    ),
    (
        (boto.ProfileNotFound,),
        CredentialsMissing,
        "{exc}",
        "aws configure list-profiles shows the profiles there are",
    ),
    (
        (boto.PartialCredentialsError,),
        CredentialsMissing,
        "{exc}",
        "An access key needs its secret key: complete the profile or the environment",
    ),
    (
        (
            boto.CredentialRetrievalError,
            boto.MetadataRetrievalError,
            boto.SSOError,
            boto.TokenRetrievalError,
            boto.RefreshWithMFAUnsupportedError,
            getattr(boto, "LoginError", boto.SSOError),  # newer than the oldest botocore we accept
        ),
        AccessDenied,
        "the credentials cannot be renewed: {exc}",
        _LOGIN_HINT,
    ),
    ((boto.ConnectTimeoutError,), RemoteTimeout, "no connection in time", UNREACHABLE_HINT),
    ((boto.ReadTimeoutError,), RemoteTimeout, "no answer in time", "Try again"),
    (
        (boto.SSLError,),
        RemoteUnavailable,
        "the connection cannot be secured",
        TLS_HINT,
    ),
    ((boto.ProxyConnectionError,), RemoteUnavailable, "the HTTP proxy cannot be reached", "Check HTTPS_PROXY"),
    ((boto.EndpointConnectionError,), RemoteUnavailable, "the endpoint cannot be reached", UNREACHABLE_HINT),
    (
        (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError),
        RemoteUnavailable,
        "the connection broke",
        "Try again",
    ),
)
