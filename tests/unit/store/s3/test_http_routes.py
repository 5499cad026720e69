"""The ways to a server: TLS and its certificates, HTTP proxies before http and https, IPv6."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fusepkg.errors import RemoteError, RemoteUnavailable, UsageError
from tests.unit.store.s3.servers import RawListener, a_store, read_async

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, its own authority, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("certificates") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RawListener]:
    """An https server, as the endpoint."""
    listener = RawListener(hello, _server_tls(certificate))
    _configure(monkeypatch, listener.url)
    yield listener
    listener.close()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawListener]:
    """An http server, as the endpoint."""
    listener = RawListener(hello)
    _configure(monkeypatch, listener.url)
    yield listener
    listener.close()


def hello(connection: socket.socket, _: bytes) -> bool:
    connection.sendall(HELLO)
    return True


def _server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _configure(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)


def tunnelling(connection: socket.socket, head: bytes) -> bool:
    """Connect to where a CONNECT says, and pass bytes both ways."""
    host, _, port = head.split()[1].decode().rpartition(":")
    with socket.create_connection((host, int(port))) as server:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
        back = threading.Thread(target=_pass_on, args=(server, connection))
        back.start()
        _pass_on(connection, server)
        back.join()
    return False


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


# --- TLS -----------------------------------------------------------------------------------------------------


def test_https_with_the_authority_that_is_named(
    secure: RawListener, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    large = bytes(range(256)) * 4096
    secure.answer = lambda connection, _: (
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(large) + large) is None
    )
    store = a_store()
    assert [store.get("key"), store.get("key"), read_async(store, "key", len(large))] == [large] * 3
    assert len(secure.connections) == 1


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_https_without_a_known_authority_is_refused(
    secure: RawListener, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for call in (a_store().get, a_store().head):
        with pytest.raises(RemoteUnavailable, match=r"cannot be secured.*AWS_CA_BUNDLE"):
            call("key")
    assert secure.connections == [[], []]
    monkeypatch.setenv(variable, str(certificate))
    assert a_store().get("key") == b"hello"


def test_a_certificate_of_another_host_is_refused(
    secure: RawListener, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://localhost:{secure.port}")
    with pytest.raises(RemoteUnavailable, match="cannot be secured"):
        a_store().get("key")


def test_a_server_without_tls_is_no_https(plain: RawListener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", plain.url.replace("http", "https"))
    with pytest.raises(RemoteUnavailable):
        a_store(connect_timeout_s=0.3).get("key")


# --- proxies -------------------------------------------------------------------------------------------------


def test_http_goes_through_the_proxy_that_is_named(plain: RawListener, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = RawListener(hello)
    monkeypatch.setenv("http_proxy", f"http://me:s%20cret@127.0.0.1:{proxy.port}")
    store = a_store()
    assert [store.get("a?b"), store.get("k", version="1"), read_async(store, "k", 5)] == [b"hello"] * 3
    bucket = store._open()
    bucket._create_small(bucket._address("new"), b"x", {})
    assert plain.connections == []
    (heads,) = proxy.connections
    assert [head.split(b"\r\n")[0] for head in heads] == [
        f"GET {plain.url}/bucket/a%3Fb HTTP/1.1".encode(),
        f"GET {plain.url}/bucket/k?versionId=1 HTTP/1.1".encode(),
        f"GET {plain.url}/bucket/k HTTP/1.1".encode(),
        f"PUT {plain.url}/bucket/new HTTP/1.1".encode(),
    ]
    for head in heads:
        assert f"host: 127.0.0.1:{plain.port}\r\n".encode() in head
        assert b"proxy-authorization: Basic " + base64.b64encode(b"me:s cret") in head
    proxy.close()


def test_https_goes_through_a_tunnel(secure: RawListener, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    proxy = RawListener(tunnelling)
    monkeypatch.setenv("https_proxy", proxy.url.replace("://", "://me:secret@"))
    store = a_store()
    assert [store.get("key"), store.get("key"), read_async(store, "key", 5)] == [b"hello"] * 3
    (heads,) = secure.connections
    assert all(b"authorization: AWS4" in head and b"roxy-" not in head for head in heads)
    (asked,) = proxy.connections
    assert [head.split(b"\r\n")[0] for head in asked] == [f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1".encode()]
    assert b"Proxy-Authorization: Basic " in asked[0]
    assert b"AWS4" not in asked[0]
    proxy.close()


def test_a_proxy_may_speak_tls(secure: RawListener, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    refusal = b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"
    proxy = RawListener(lambda connection, _: connection.sendall(refusal) is None, _server_tls(certificate))
    monkeypatch.setenv("https_proxy", proxy.url)
    with pytest.raises(RemoteUnavailable, match="the proxy answered 407"):
        a_store().get("key")
    assert [head.split(b"\r\n")[0] for heads in proxy.connections for head in heads] == [
        f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1".encode()
    ]
    proxy.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 F\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + HELLO,
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_a_proxy_that_makes_no_tunnel_gets_nothing(
    secure: RawListener, certificate: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    proxy = RawListener(lambda connection, _: connection.sendall(answer) is not None)
    monkeypatch.setenv("https_proxy", proxy.url)
    with pytest.raises(RemoteError):
        a_store().get("key")
    assert secure.connections == []
    assert not any(b"AWS4" in head for heads in proxy.connections for head in heads)
    proxy.close()


def test_a_proxy_that_is_not_there_is_named(plain: RawListener, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{reserved.getsockname()[1]}")
        with pytest.raises(RemoteUnavailable, match=r"proxy.*HTTP_PROXY"):
            a_store().get("key")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:99999")
    with pytest.raises(UsageError):
        a_store().get("key")
    assert plain.connections == []


# --- addresses -----------------------------------------------------------------------------------------------


def test_an_endpoint_may_be_an_ipv6_address_and_have_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(HELLO)

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    _configure(monkeypatch, f"http://[::1]:{port}/s3/")
    assert a_store().get("key") == b"hello"
    thread.join()
    listener.close()
    assert asked[0].startswith(b"GET /s3/bucket/key HTTP/1.1\r\n")
    assert f"host: [::1]:{port}\r\n".encode() in asked[0]
