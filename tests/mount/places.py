"""Where the packages of these tests lie: the embedded registry, or a bucket of a real S3 server behind the proxy."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusepkg.model.physical_key import parse_physical_key
from tests.command import run_fusepkg
from tests.rgw import aws_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.proxy import Proxy, Request
    from tests.rgw import Gateway


class Place(ABC):
    """A registry with the packages of the session in it. ``settings`` is the environment in which commands find it."""

    bucket: str
    settings: dict[str, str]

    def __init__(self) -> None:
        self._later: dict[str, tuple[Path, dict[str, str]]] = {}

    def reference(self, rest: str) -> str:
        """``small:v1`` as a whole reference."""
        if rest in self._later:
            folder, environment = self._later.pop(rest)
            run_fusepkg("push", folder, f"{self.bucket}/{rest}", "--no-packs", env=environment)
        return f"{self.bucket}/{rest}"

    def publish_when_asked_for(self, folder: Path, rest: str) -> None:
        """Push a folder without packs, in the present environment, when its reference is first asked for."""
        self._later[rest] = (folder, dict(os.environ))

    def publish(self, folder: Path, rest: str, *options: str) -> str:
        """Push a folder; its reference."""
        run_fusepkg("push", folder, self.reference(rest), *options, env=self.settings)
        return self.reference(rest)

    @contextmanager
    def replaced(self, url: str, data: bytes | None) -> Iterator[None]:
        """Other bytes under an object's key, or none at all, while the block runs."""
        before = self.get(url)
        self.put(url, data)
        try:
            yield
        finally:
            self.put(url, before)

    @abstractmethod
    def get(self, url: str) -> bytes:
        """An object's bytes."""

    @abstractmethod
    def put(self, url: str, data: bytes | None) -> None:
        """Write an object, or remove it."""

    @abstractmethod
    def put_registry(self, key: str, data: bytes) -> None:
        """Write an object of the registry by its key."""

    @abstractmethod
    def chunk_list_url(self, digest_hex: str) -> str:
        """The chunk list of the blob with that hash."""

    @abstractmethod
    def gone(self) -> Iterator[None]:
        """Out of reach while the block runs."""


class Folder(Place):
    """The embedded registry."""

    bucket = "local"

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self._data_dir = data_dir
        self.settings = {"FUSEPKG_DATA_DIR": str(data_dir)}

    def get(self, url: str) -> bytes:
        return self._path(url).read_bytes()

    def put(self, url: str, data: bytes | None) -> None:
        path = self._path(url)
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)

    def put_registry(self, key: str, data: bytes) -> None:
        path = self._data_dir / "local" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def chunk_list_url(self, digest_hex: str) -> str:
        return f"file://{self._data_dir}/local/.quilt/chunks/{digest_hex[:2]}/{digest_hex}"

    @contextmanager
    def gone(self) -> Iterator[None]:
        away = self._data_dir.with_name(f"{self._data_dir.name}-moved-away")
        self._data_dir.rename(away)
        try:
            yield
        finally:
            away.rename(self._data_dir)

    def _path(self, url: str) -> Path:
        from pathlib import Path

        return Path(parse_physical_key(url).key)


class Bucket(Place):
    """A bucket, reached through ``proxy`` by the product and directly by the test."""

    def __init__(self, bucket: str, gateway: Gateway, proxy: Proxy) -> None:
        super().__init__()
        self.bucket = bucket
        self.proxy = proxy
        self._gateway = gateway
        self.settings = aws_environment(proxy.endpoint, gateway.owner)

    def data_requests(self) -> list[Request]:
        """Requests for other things than manifests, tags and chunk lists."""
        return [request for request in self.proxy.requests if not request.key.startswith(".quilt/") and request.key]

    def keys(self, prefix: str) -> list[str]:
        """Keys of objects that begin so."""
        listed = self._gateway.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [info["Key"] for info in listed.get("Contents", ())]

    def get(self, url: str) -> bytes:
        return self._gateway.s3.get_object(Bucket=self.bucket, Key=parse_physical_key(url).key)["Body"].read()

    def put(self, url: str, data: bytes | None) -> None:
        key = parse_physical_key(url).key
        if data is None:
            self._gateway.s3.delete_object(Bucket=self.bucket, Key=key)
        else:
            self._gateway.s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def put_registry(self, key: str, data: bytes) -> None:
        self._gateway.s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def chunk_list_url(self, digest_hex: str) -> str:
        return f"s3://{self.bucket}/.quilt/chunks/{digest_hex[:2]}/{digest_hex}"

    @contextmanager
    def gone(self) -> Iterator[None]:
        self.proxy.unreachable()
        try:
            yield
        finally:
            self.proxy.reachable()


@contextmanager
def surroundings(home: Path, settings: dict[str, str]) -> Iterator[dict[str, str]]:
    """A user's environment of its own below ``home`` for what runs in a session fixture, out of every test's home."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("AWS_", "FUSEPKG_", "XDG_")) and name != "FUSEPKG_TEST_RUN":
            del os.environ[name]
    os.environ.update(
        {
            "HOME": str(home),
            "FUSEPKG_CACHE_DIR": str(home / "cache"),
            "FUSEPKG_DATA_DIR": str(home / "data"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        | settings
    )
    try:
        yield dict(os.environ)
    finally:
        os.environ.clear()
        os.environ.update(before)
