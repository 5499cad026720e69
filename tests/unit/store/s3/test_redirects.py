"""No redirect is followed, to another host or another port, by reads and writes, with and without a session token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.credentials import Credentials

from fusepkg.errors import FusepkgError, RemoteError
from fusepkg.store.s3 import S3Store
from tests.unit.store.s3.servers import Listener, a_store, read_async

STATUSES = [300, 301, 302, 303, 307, 308]


@pytest.fixture
def neighbour() -> Iterator[Listener]:
    """Another port of the server's host."""
    listener = Listener("127.0.0.1")
    yield listener
    listener.close()


def ask_everything(store: S3Store, key: str = "key") -> None:
    """Make each kind of request; each has to fail with an error of ours."""
    for call in (
        lambda: store.get(key),
        lambda: store.get(key, length=5),
        lambda: list(store.stream(key, piece_bytes=10)),
        lambda: store.head(key),
        lambda: list(store.list("")),
        lambda: store.create(key, b"x"),
        lambda: store.overwrite(key, b"x"),
    ):
        with pytest.raises(RemoteError, match=r"answered 30|AWS_REGION"):
            call()
    assert isinstance(read_async(store, key), FusepkgError)


@pytest.mark.parametrize("status", STATUSES)
def test_a_redirect_to_another_host_or_port_is_not_followed(
    server: Listener, other: Listener, neighbour: Listener, status: int
) -> None:
    for elsewhere in (other, neighbour):
        server.answers(
            lambda request, url=elsewhere.url: request.reply(status, Location=f"{url}/bucket/key")  # type: ignore[misc]
        )
        ask_everything(a_store())
        assert elsewhere.asked == []
    assert {line[0] for line in server.asked} == {"GET", "HEAD", "PUT"}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("when", ["from the start", "later"])
def test_a_session_token_goes_nowhere_else(
    server: Listener, other: Listener, neighbour: Listener, monkeypatch: pytest.MonkeyPatch, status: int, when: str
) -> None:
    if when == "from the start":
        monkeypatch.setenv("AWS_SESSION_TOKEN", "secret-token")
    store = a_store()
    if when == "later":
        credentials = store._open()._clients.connection.credentials
        assert credentials is not None
        credentials._current = Credentials("x", "x", "secret-token")
    for elsewhere in (other, neighbour):
        server.answers(
            lambda request, url=elsewhere.url: request.reply(status, Location=f"{url}/bucket/key")  # type: ignore[misc]
        )
        ask_everything(store)
        assert elsewhere.asked == []
    sent = {method for method, *_, headers in server.asked if headers.get("X-Amz-Security-Token") == "secret-token"}
    assert sent == {"GET", "HEAD", "PUT"}


def test_a_region_that_a_body_or_a_location_names_is_not_asked(server: Listener, other: Listener) -> None:
    """Only the header of the bucket's region counts."""
    body = b"<Error><Code>PermanentRedirect</Code><Region>eu-west-1</Region></Error>"
    server.answers(lambda request: request.reply(301, body, Location=f"{other.url}/bucket/key"))
    store = a_store()
    with pytest.raises(RemoteError, match="AWS_REGION"):
        store.get("key")
    assert store._open()._clients.connection.region == "us-east-1"
    assert other.asked == []
