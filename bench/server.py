"""The S3 server of the peers' rows: SeaweedFS, behind haproxy, which holds each request back and counts it.

One haproxy has a port per delay, so that all subjects of a row ask the same server with the same data. The delay stands
for the distance to a bucket: 0 ms for none, 5 ms for the same region, 20 ms for another. What is counted are GETs, at
the server's side of haproxy.
"""

from __future__ import annotations

import csv
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

DELAYS_MS = (0, 5, 20)
REGION = "us-east-1"
START_TIMEOUT_S = 60.0
_POLL_S = 0.05

_LUA = """\
for _, delay in ipairs({%s}) do
  core.register_action("sleep" .. delay, {"http-req"}, function(txn) core.msleep(delay) end)
end
"""

_FRONTEND = """\
frontend after{delay}
  bind 127.0.0.1:{port}
  {sleep}
  use_backend gets{delay} if METH_GET
  default_backend others{delay}
backend gets{delay}
  server s3 127.0.0.1:{server}
backend others{delay}
  server s3 127.0.0.1:{server}
"""

_HAPROXY = """\
global
  stats socket {socket} mode 600 level operator
  lua-load {lua}
  maxconn 4000
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 10s
  timeout client 300s
  timeout server 300s
"""


class ServerFailed(Exception):
    """A program of the server did not start; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. ``endpoints`` are its URLs by delay in ms."""

    endpoints: dict[int, str]
    access_key: str
    secret_key: str
    directory: Path

    def environment(self, delay_ms: int) -> dict[str, str]:
        """The variables that every AWS tool reads."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoints[delay_ms],
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def gets(self, delay_ms: int) -> int:
        """Return the GETs that arrived at the server by the way with that delay, since it started."""
        return self._counted(delay_ms, "stot")

    def sent_bytes(self, delay_ms: int) -> int:
        """Return the bytes that answered these GETs, headers included."""
        return self._counted(delay_ms, "bout")

    def _counted(self, delay_ms: int, column: str) -> int:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.directory / "haproxy.sock"))
            asking.sendall(b"show stat\n")
            with asking.makefile("r") as answer:
                rows = list(csv.DictReader(answer.read().lstrip("# ").splitlines()))
        return next(
            int(row[column]) for row in rows if row["pxname"] == f"gets{delay_ms}" and row["svname"] == "BACKEND"
        )


def why_no_server() -> str:
    """Why no server can be started here; empty where it can."""
    missing = [name for name in (_weed(), "haproxy") if shutil.which(name) is None]
    return f"{' and '.join(missing)} missing: scripts/setup.sh bench" if missing else ""


def start_server(directory: Path, stack: ExitStack, delays_ms: Sequence[int] = DELAYS_MS) -> Server:
    """Start both programs; ``stack`` ends them. Raises ServerFailed."""
    directory.mkdir(parents=True)
    ports = _free_ports(9 + len(delays_ms))
    server_port, *rest = ports
    access_key, secret_key = f"AK{secrets.token_hex(8).upper()}", secrets.token_hex(20)
    identity = {
        "name": "bench",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (directory / "data").mkdir()
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    flags = [f"-{name}={port}" for name, port in zip((*names, "s3.port.grpc"), rest, strict=False)]
    weed = _start(
        directory, stack, "weed", _weed(), "server", "-s3", f"-dir={directory / 'data'}", "-ip=127.0.0.1",
        f"-s3.port={server_port}", f"-s3.config={directory / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-volume.max=100", "-volume.minFreeSpace=1", "-master.volumeSizeLimitMB=1024", "-master.telemetry=false",
        *flags,
    )  # fmt: skip
    _wait(directory / "weed.log", weed, f"http://127.0.0.1:{server_port}")
    lua = directory / "sleep.lua"
    lua.write_text(_LUA % ", ".join(str(delay) for delay in delays_ms if delay))
    configuration = _HAPROXY.format(socket=directory / "haproxy.sock", lua=lua)
    endpoints = {}
    for delay, port in zip(delays_ms, ports[9:], strict=True):
        sleep = f"http-request lua.sleep{delay}" if delay else ""
        configuration += _FRONTEND.format(delay=delay, port=port, server=server_port, sleep=sleep)
        endpoints[delay] = f"http://127.0.0.1:{port}"
    (directory / "haproxy.cfg").write_text(configuration)
    haproxy = _start(directory, stack, "haproxy", "haproxy", "-db", "-f", str(directory / "haproxy.cfg"))
    for endpoint in endpoints.values():
        _wait(directory / "haproxy.log", haproxy, endpoint)
    return Server(endpoints, access_key, secret_key, directory)


def _weed() -> str:
    return str(Path(sys.executable).with_name("weed"))


def _free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _start(directory: Path, stack: ExitStack, name: str, *command: str) -> subprocess.Popen[bytes]:
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # nothing of it is kept
    process.wait()


def _wait(log: Path, process: subprocess.Popen[bytes], endpoint: str) -> None:
    """Wait until S3 answers, if only with a refusal. Raises ServerFailed."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code < 500:
                return
        except OSError:
            pass
        else:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerFailed(f"nothing answers at {endpoint}: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(_POLL_S)
