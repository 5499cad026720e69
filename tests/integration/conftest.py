"""Both kinds of registry, for tests of whole commands."""

from __future__ import annotations

import pytest

from tests.rgw import Gateway


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def registry(request: pytest.FixtureRequest) -> str:
    """A bucket as references name it: the embedded one, or a fresh one on the S3 server."""
    if request.param == "local":
        return "local"
    gateway: Gateway = request.getfixturevalue("s3")
    return gateway.bucket()
