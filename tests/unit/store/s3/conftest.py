from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.store.s3.servers import Listener


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    listener = Listener("127.0.0.1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", listener.url)
    yield listener
    listener.close()


@pytest.fixture
def other() -> Iterator[Listener]:
    listener = Listener("127.0.0.2")
    yield listener
    listener.close()
