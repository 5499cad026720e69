"""What every test stands on: a home of its own, real servers, the command line. See tests/README.md."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.machine import why_no_s3
from tests.proxy import Proxy
from tests.rgw import Gateway, aws_environment, start_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["tests.plugins.skips", "tests.plugins.leftovers"]

COMMAND_TIMEOUT_S = 120.0
"""No command a test runs takes a tenth of this; past it, it hangs."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of the test's own: no setting, cache, credential or proxy of the user's reaches a test."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "FUSEPKG_", "QUILT_", "XDG_")) and name != "FUSEPKG_TEST_RUN":
            monkeypatch.delenv(name)
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    settings = {
        "HOME": home,
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local" / "share",
        "XDG_STATE_HOME": home / ".local" / "state",
        "XDG_RUNTIME_DIR": tmp_path_factory.mktemp("run"),  # short, as in life: a socket's path has 107 bytes
        "FUSEPKG_CACHE_DIR": home / "fusepkg-cache",
        "FUSEPKG_DATA_DIR": home / "fusepkg-data",
    }
    for name, directory in settings.items():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        monkeypatch.setenv(name, str(directory))
    monkeypatch.setenv("FUSEPKG_CONFIG", str(home / ".config" / "fusepkg.toml"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("QUILT_DISABLE_USAGE_METRICS", "true")
    monkeypatch.setenv("QUILT_MINIMIZE_STDOUT", "true")
    return home


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


@pytest.fixture
def proxy(s3: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the S3 server that records and can spoil traffic; the environment points at it."""
    with Proxy(s3.endpoint, s3.s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


class Fusepkg(Protocol):
    """Runs the command line as a user would: another process, its own interpreter."""

    def __call__(
        self,
        *arguments: object,
        check: bool = True,
        timeout: float = COMMAND_TIMEOUT_S,
        stdin: str = "",
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """``check`` fails the test, showing all output, unless the exit code is 0; ``env`` is added to ours."""
        ...


@pytest.fixture
def fusepkg() -> Fusepkg:
    """The command line: ``fusepkg("ls", reference).stdout``."""
    return _run_fusepkg


def _run_fusepkg(
    *arguments: object,
    check: bool = True,
    timeout: float = COMMAND_TIMEOUT_S,
    stdin: str = "",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusepkg", *(str(argument) for argument in arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, input=stdin, cwd=cwd,
            env={**os.environ, **(env or {})}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        said = f"--- stdout\n{_text(exc.stdout)}\n--- stderr\n{_text(exc.stderr)}"
        pytest.fail(f"no end after {timeout:.0f} s, or something it left keeps its output open: {command}\n{said}")
    if check and done.returncode != 0:
        said = f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        pytest.fail(f"exit code {done.returncode}: {command}\n{said}")
    return done


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
