"""The way to a server: its address, TLS, and the proxy before it."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. ``authorization`` is its header's value, or empty."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    authorization: str


@dataclass(frozen=True, slots=True)
class Route:
    """Where a server is, and how to get there. ``authority`` is its host and port as its own ``Host`` header says."""

    host: str
    port: int
    authority: str
    tls: ssl.SSLContext | None
    proxy: Proxy | None

    @property
    def forwarded(self) -> bool:
        """Whether the proxy itself makes the request, and is told the whole URL."""
        return self.proxy is not None and self.tls is None


def route_to(url: str, proxy_url: str | None, certificates: str | None) -> Route:
    """Plan the way to a server; ``certificates`` is a PEM file of authorities, None for the system's.

    Raises ValueError for URLs without a host or a port that is none, and OSError where the file cannot be read.
    """
    parts = urlsplit(url)
    host, port = _place(parts)
    named = f"[{host}]" if ":" in host else host
    authority = named if port == _PORTS[parts.scheme] else f"{named}:{port}"
    tls = _context(certificates) if parts.scheme == "https" else None
    return Route(host, port, authority, tls, _proxy(proxy_url, certificates) if proxy_url else None)


def _place(parts: SplitResult) -> tuple[str, int]:
    host = parts.hostname
    if parts.scheme not in _PORTS or not host or any(not "!" <= letter <= "~" for letter in host):
        raise ValueError(f"no endpoint: {parts.scheme}://{host}")
    return host, parts.port or _PORTS[parts.scheme]


def _proxy(url: str, certificates: str | None) -> Proxy:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host, port = _place(parts)
    authorization = ""
    if parts.username:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(words.encode()).decode()}"
    return Proxy(host, port, _context(certificates) if parts.scheme == "https" else None, authorization)


def _context(certificates: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates)
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # on from Python 3.13; private authorities that boto3 accepts fail it
    return context
