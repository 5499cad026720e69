"""A real S3 for tests: one Ceph monitor, one in-memory OSD and one RADOS Gateway on loopback.

Nothing is fixed, so several runs may share a machine: ports are free ones, data lies in a directory of the run. The
processes stay in the foreground under ``setpriv --pdeathsig``, so the kernel ends them when pytest ends, however.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "setpriv")
START_TIMEOUT_S = 60.0
"""Until the gateway answers: 1 s alone on two cores, many times that beside other test runs."""
START_TRIES = 3
"""A free port may be taken by another program before the daemon binds it; then everything starts anew."""
POLL_S = 0.05

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{mon_port}/0]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {directory}
pid file =
admin socket =
keyring = {directory}/keyring
log to file = false
log to stderr = true
err to stderr = true
mon cluster log to file = false
debug default = 0/0
debug rgw = 0/0
debug ms = 0/0
debug osd = 0/0
debug mon = 0/0
debug paxos = 0/0
mon data = {directory}/mon
mon data avail warn = 0
mon data avail crit = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon osd min down reporters = 100
paxos min wait = 0.005
paxos propose interval = 0.02
osd data = {directory}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd memory target = 939524096
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd class load list = *
osd class default list = *
osd max markdown count = 1000
osd class update on start = false
osd crush update on start = false
osd fast shutdown = true
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 128
rgw run sync thread = false
rgw enable quota threads = false
rgw enable usage log = false
rgw enable ops log = false
rgw gc max objs = 1
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
rgw lc max objs = 1
rgw dynamic resharding = false
[mon.a]
host = localhost
mon addr = [v1:127.0.0.1:{mon_port}/0]
[osd.0]
host = localhost
"""


class GatewayFailed(Exception):
    """The gateway did not come up; the message ends with what its processes said."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One user of the gateway."""

    access_key: str
    secret_key: str


def missing_programs() -> list[str]:
    """The programs of the gateway this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def aws_environment(endpoint: str, credentials: Credentials) -> dict[str, str]:
    """The variables every AWS tool reads, for one endpoint and user."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }


@dataclass(slots=True)
class Gateway:
    """A running gateway. ``owner`` may do everything to the buckets made here; nobody else anything."""

    endpoint: str
    owner: Credentials
    directory: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _client: S3Client | None = None

    def client(self, credentials: Credentials | None = None, endpoint: str | None = None) -> S3Client:
        """A new boto3 client; it ignores the environment, so tests may point that anywhere."""
        who = credentials or self.owner
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, max_pool_connections=32),
        )

    @property
    def s3(self) -> S3Client:
        """The owner's client, for looking at and tampering with objects behind the product's back."""
        if self._client is None:
            self._client = self.client()
        return self._client

    def bucket(self, *, versioned: bool = False) -> str:
        """A fresh, empty bucket."""
        name = f"test-{os.getpid()}-{next(self._numbers)}"
        self.s3.create_bucket(Bucket=name)
        if versioned:
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def user(self) -> Credentials:
        """A new user without rights to any bucket; takes a second."""
        return _create_user(self.directory, f"user-{next(self._numbers)}")


def start_gateway(directory: Path, stack: ExitStack) -> Gateway:
    """Start a gateway with its data below ``directory``; ``stack`` ends it. Raises GatewayFailed."""
    for attempt in range(1, START_TRIES + 1):
        place = directory / f"try-{attempt}"
        place.mkdir(parents=True)
        with ExitStack() as processes:
            try:
                gateway = _start(place, processes)
            except GatewayFailed:
                if attempt == START_TRIES:
                    raise
                continue
            stack.push(processes.pop_all())
            return gateway
    raise AssertionError("the last try returns or raises")


def _start(directory: Path, stack: ExitStack) -> Gateway:
    fsid, osd, port, mon_port = str(uuid.uuid4()), str(uuid.uuid4()), free_port(), free_port()
    for name in ("mon", "osd", "rgw"):
        (directory / name).mkdir()
    configuration = directory / "ceph.conf"
    configuration.write_text(_CONFIGURATION.format(fsid=fsid, directory=directory, port=port, mon_port=mon_port))
    monmap = str(directory / "monmap")
    address = f"[v1:127.0.0.1:{mon_port}/0]"
    _run(directory, "monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap)
    _run(directory, "ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
    mon = _daemon(directory, stack, "ceph-mon", "-f", "-i", "a")
    _run(directory, "ceph", "osd", "create", osd, watched=[mon])
    _run(directory, "ceph", "osd", "crush", "add", "osd.0", "1.0", "host=localhost", "root=default", watched=[mon])
    _run(directory, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    osd_process = _daemon(directory, stack, "ceph-osd", "-f", "-i", "0")
    radosgw = _daemon(directory, stack, "radosgw", "-f", "-n", "client.rgw")
    endpoint = f"http://127.0.0.1:{port}"
    watched = [mon, osd_process, radosgw]
    _wait(directory, watched, lambda: _answers(endpoint))
    return Gateway(endpoint, _create_user(directory, "owner"), directory)


def _create_user(directory: Path, name: str) -> Credentials:
    made = Credentials(f"AK{secrets.token_hex(8).upper()}", secrets.token_hex(20))
    keys = ("--access-key", made.access_key, "--secret-key", made.secret_key)
    _run(directory, "radosgw-admin", "-n", "client.rgw", "user", "create", "--uid", name, "--display-name", name, *keys)
    return made


def _answers(endpoint: str) -> bool:
    """Whether S3 answers: an anonymous listing of buckets is a real request all the way down to the OSD."""
    try:
        with urllib.request.urlopen(endpoint, timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as exc:
        exc.close()
        return False
    except OSError:
        return False


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}


def _daemon(directory: Path, stack: ExitStack, program: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = ["setpriv", "--pdeathsig", "KILL", program, "-c", str(directory / "ceph.conf"), *arguments]
    with (directory / f"{program}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(), cwd=directory
        )
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # nothing of it is kept, so there is nothing to shut down in order
    process.wait()


def _run(directory: Path, program: str, *arguments: str, watched: list[subprocess.Popen[bytes]] | None = None) -> None:
    """Run one set-up command to its end, unless one of the ``watched`` daemons it talks to ends first."""
    log = directory / f"{program}.out"
    settings = () if program == "monmaptool" else ("-c", str(directory / "ceph.conf"))
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, *settings, *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment(), cwd=directory,
        )  # fmt: skip
    try:
        _wait(directory, watched or [], lambda: process.poll() is not None)
    finally:
        _end(process)
    if process.returncode != 0:
        raise GatewayFailed(f"{program} {' '.join(arguments)} ended with {process.returncode}:\n{_tails(directory)}")


def _wait(directory: Path, watched: list[subprocess.Popen[bytes]], done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not done():
        if any(process.poll() is not None for process in watched):
            raise GatewayFailed(f"a daemon ended on its own:\n{_tails(directory)}")
        if time.monotonic() > deadline:
            raise GatewayFailed(f"nothing after {START_TIMEOUT_S:.0f} s:\n{_tails(directory)}")
        time.sleep(POLL_S)


def _tails(directory: Path) -> str:
    logs = sorted([*directory.glob("*.log"), *directory.glob("*.out")])
    return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)
