"""Packages published once for the session, and each test's own view of them: place, engine, cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.engines import kernel
from tests import trees
from tests.mount.mounting import mounted
from tests.mount.places import Bucket, Folder, Place, surroundings
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.mount.mounting import Mount
    from tests.rgw import Gateway

ON_BOTH_PLACES = ["local", pytest.param("s3", marks=pytest.mark.s3)]


@dataclass(frozen=True, slots=True)
class Originals:
    """The folders that were published: ``big`` as big:v1, ``small`` as small:v1, ``later`` as small:v2."""

    big: Path
    small: Path
    later: Path


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    root = tmp_path_factory.mktemp("originals")
    originals = Originals(trees.everything(root / "big"), trees.small(root / "small"), trees.small(root / "later"))
    (originals.later / "README.md").write_text("# A later dataset\n")
    (originals.later / "train" / "class0" / "0.bin").unlink()
    (originals.later / "new.txt").write_text("new\n")
    return originals


def publish_all(place: Place, originals: Originals) -> None:
    place.publish(originals.small, "small:v1")
    place.publish(originals.later, "small:v2")
    place.publish_when_asked_for(originals.big, "big:v1")


@pytest.fixture(scope="session")
def folder(originals: Originals, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    place = Folder(tmp_path_factory.mktemp("registry") / "data")
    with surroundings(tmp_path_factory.mktemp("publisher"), place.settings):
        publish_all(place, originals)
    return place


@pytest.fixture(scope="session")
def session_proxy(rgw: Gateway) -> Iterator[Proxy]:
    with Proxy(rgw.endpoint, rgw.s3) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def bucket(
    rgw: Gateway, session_proxy: Proxy, originals: Originals, tmp_path_factory: pytest.TempPathFactory
) -> Bucket:
    place = Bucket(rgw.bucket(), rgw, session_proxy)
    with surroundings(tmp_path_factory.mktemp("publisher"), place.settings | {"AWS_ENDPOINT_URL_S3": rgw.endpoint}):
        publish_all(place, originals)
    return place


@pytest.fixture(scope="session")
def place_named(request: pytest.FixtureRequest) -> Callable[[str], Place]:
    """A place by its name: what is not asked for is not started."""

    def named(name: str) -> Place:
        place: Place = request.getfixturevalue("folder" if name == "local" else "bucket")
        return place

    return named


@pytest.fixture(params=ON_BOTH_PLACES)
def place(
    request: pytest.FixtureRequest, place_named: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """Where the packages lie; the environment points there, and the proxy's log and plan are empty."""
    place = place_named(request.param)
    for name, value in place.settings.items():
        monkeypatch.setenv(name, value)
    if isinstance(place, Bucket):
        place.proxy.heal()
        place.proxy.forget()
    yield place
    if isinstance(place, Bucket):
        place.proxy.heal()


ENGINES = ["fuse", "erofs"]


def require_engine(name: str) -> str:
    """The name, unless the engine cannot run here; skips with the reason."""
    reason = kernel.why_no_erofs() if name == "erofs" else kernel.why_no_fuse()
    if reason is not None:
        pytest.skip(f"the {name} engine cannot run: {reason}")
    return name


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return require_engine(request.param)


@pytest.fixture
def mount(place: Place, engine: str, tmp_path: Path) -> Callable[..., AbstractContextManager[Mount]]:
    """``with mount("small:v1") as m:``, at a directory of its own, ``m`` unless told."""

    def make(rest: str, *options: object, at: str = "m") -> AbstractContextManager[Mount]:
        return mounted(place.reference(rest), tmp_path / at, engine, *options)

    return make
