"""Publishing with credentials that may not: refused with the permission that is missing, nothing half published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fusepkg.errors import AccessDenied, ObjectExists
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.store.s3 import S3Settings, S3Store
from tests.rgw import aws_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.rgw import Credentials, Gateway

pytestmark = pytest.mark.s3

READ = ("s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions")
WRITE = ("s3:PutObject", "s3:AbortMultipartUpload")


@dataclass(frozen=True)
class Shared:
    """A bucket of somebody else's, and a user with rights to it."""

    server: Gateway
    bucket: str
    user: Credentials

    @property
    def environment(self) -> dict[str, str]:
        return aws_environment(self.server.endpoint, self.user)

    def allow(self, actions: Sequence[str], *, below: str = "*", but_not: str = "") -> None:
        name = f"arn:aws:s3:::{self.bucket}"
        statements = [
            {"Effect": "Allow", "Principal": "*", "Action": list(actions), "Resource": [name, f"{name}/{below}"]}
        ]
        if but_not:
            denied = {"Effect": "Deny", "Principal": "*", "Action": ["s3:PutObject"], "Resource": [f"{name}/{but_not}"]}
            statements.append(denied)
        self.server.s3.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps({"Statement": statements}))

    def objects(self) -> dict[str, str]:
        found = self.server.s3.list_object_versions(Bucket=self.bucket).get("Versions", [])
        return {item["Key"]: item["ETag"] for item in found}


@pytest.fixture(scope="module")
def stranger(rgw: Gateway) -> Credentials:
    return rgw.user()


@pytest.fixture(params=["plain", "versioned"])
def shared(s3: Gateway, stranger: Credentials, request: pytest.FixtureRequest) -> Shared:
    return Shared(s3, s3.bucket(versioned=request.param == "versioned"), stranger)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    (folder / "b").write_bytes(b"two")
    return folder


def test_a_bucket_one_may_only_read(shared: Shared, folder: Path, fusepkg: Fusepkg) -> None:
    fusepkg("push", folder, f"{shared.bucket}/data")
    shared.allow(READ)
    before = shared.objects()
    (folder / "a").write_bytes(b"changed")
    refused = fusepkg("push", folder, f"{shared.bucket}/data", check=False, env=shared.environment)
    assert refused.returncode == 4
    assert "s3:PutObject" in refused.stderr
    assert shared.bucket in refused.stderr
    assert shared.objects() == before
    assert fusepkg("cat", f"{shared.bucket}/data", "a", env=shared.environment).stdout == "one"
    refused = fusepkg("tag", f"{shared.bucket}/data", "mine", check=False, env=shared.environment)
    assert refused.returncode == 4
    assert "s3:PutObject" in refused.stderr


@pytest.mark.parametrize("shared", ["versioned"], indirect=True)
@pytest.mark.parametrize("closed", [".quilt/tags/*", ".quilt/PACKAGE*"])
def test_a_registry_one_may_not_write(shared: Shared, folder: Path, fusepkg: Fusepkg, closed: str) -> None:
    """The data arrive, and no version names them; whoever may finishes by pushing again, with no upload."""
    fusepkg("push", folder, f"{shared.bucket}/data")
    shared.allow([*READ, *WRITE, "s3:DeleteObjectVersion"], but_not=closed)
    (folder / "a").write_bytes(b"changed")
    refused = fusepkg("push", folder, f"{shared.bucket}/data", check=False, env=shared.environment)
    assert refused.returncode == 4
    assert "s3:PutObject" in refused.stderr
    assert len(json.loads(fusepkg("log", f"{shared.bucket}/data", "--json").stdout)) == 1
    assert fusepkg("cat", f"{shared.bucket}/data", "a").stdout == "one"
    shared.allow([*READ, *WRITE, "s3:DeleteObjectVersion"])
    fusepkg("push", folder, f"{shared.bucket}/data", env=shared.environment)
    assert fusepkg("cat", f"{shared.bucket}/data", "a", env=shared.environment).stdout == "changed"


def test_versions_one_may_not_list(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    version = S3Store(shared.bucket, S3Settings()).create("a/b", b"x").version
    for name, value in shared.environment.items():
        monkeypatch.setenv(name, value)
    shared.allow(["s3:GetObject", "s3:ListBucket"])
    store = S3Store(shared.bucket, S3Settings())
    assert [(info.key, info.size, info.version) for info in store.list_versions("a/")] == [("a/b", 1, None)]
    assert store.head("a/b").version == version


def test_a_copy_that_may_not_be_made(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    own = S3Store(shared.bucket, S3Settings())
    source = parse_physical_key(own.url("source", own.create("source", b"x").version))
    secret = shared.server.bucket()
    shared.server.s3.put_object(Bucket=secret, Key="source", Body=b"x")
    for name, value in shared.environment.items():
        monkeypatch.setenv(name, value)
    shared.allow(READ)
    with pytest.raises(AccessDenied, match="write"):
        S3Store(shared.bucket, S3Settings()).copy(source, "to", size=1)
    shared.allow([*READ, *WRITE, "s3:DeleteObject", "s3:DeleteObjectVersion"])
    with pytest.raises(AccessDenied, match="read the object that is copied"):
        S3Store(shared.bucket, S3Settings()).copy(parse_physical_key(f"s3://{secret}/source"), "to", size=1)
    assert set(shared.objects()) == {"source"}
    store = S3Store(shared.bucket, S3Settings())
    store.copy(source, "to", size=1)
    with pytest.raises(ObjectExists):
        store.copy(source, "to", size=1)
    assert store.get("to") == b"x"
