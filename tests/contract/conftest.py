"""Fixtures of the contract tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.store.directory import DirectoryStore
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.memory import MemoryStore
from fusepkg.store.protocol import ObjectStore
from fusepkg.store.s3 import S3Settings, S3Store, listing
from tests.contract.stores import KINDS, SEAWEEDFS_LIMITS, Subject
from tests.rgw import aws_environment


@pytest.fixture(params=KINDS)
def subject(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    kind: str = request.param
    match kind.partition("-")[0]:
        case "memory":
            return Subject(kind, MemoryStore("bucket", versioned="versioned" in kind))
        case "faulty":
            return Subject(kind, FaultyStore(MemoryStore("bucket")))
        case "directory":
            return Subject(kind, DirectoryStore(tmp_path / "registry"))
        case server:
            limit = SEAWEEDFS_LIMITS.get(request.function.__name__) if server == "seaweedfs" else None
            if limit:
                pytest.skip(limit)
            gateway = request.getfixturevalue("rgw" if server == "s3" else server)
            for name, value in aws_environment(gateway.endpoint, gateway.owner).items():
                monkeypatch.setenv(name, value)
            return Subject(kind, S3Store(gateway.bucket(versioned="versioned" in kind), S3Settings()))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of keys that a bucket is asked for at a time in this test, in place of 1,000."""
    monkeypatch.setattr(listing, "PAGE_KEYS", 25)
    return listing.PAGE_KEYS


@pytest.fixture
def store(subject: Subject) -> ObjectStore:
    return subject.store
