"""A driver in a process of its own, and a client that asks it as Kubernetes does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import grpc

from fusepkg.csi.protocol import MESSAGES
from fusepkg.daemon import records
from tests.plugins.leftovers import mounts_below

READER = {"mount": {}, "access_mode": {"mode": 3}}
CALL_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


@dataclass
class Surroundings:
    """Where drivers of a test work, one after the other, and what they log."""

    root: Path
    environment: dict[str, str]
    options: tuple[str, ...] = ()
    logs: list[Path] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.root / "state"

    def target(self, pod: str) -> Path:
        """A new target path; Kubernetes makes the directory above it."""
        path = self.root / "pods" / pod / "mount"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def mountpoints(self) -> list[str]:
        """Where the processes of mounts say that they serve."""
        return [one.mountpoint for one in records.read_records() if Path(one.mountpoint).is_relative_to(self.state)]

    def mounted(self) -> list[tuple[str, str]]:
        return mounts_below(self.root)

    def log(self) -> str:
        return "".join(path.read_text() for path in self.logs)


class Client:
    """Calls of a driver."""

    def __init__(self, process: subprocess.Popen[bytes], socket: Path) -> None:
        self.process = process
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def call(self, name: str, service: str = "Node", **values: Any) -> Any:
        """The answer; raises grpc.RpcError."""
        known = MESSAGES.get(f"{name}Response", MESSAGES["NodePublishVolumeResponse"])
        method = self._channel.unary_unary(
            f"/csi.v1.{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=known.FromString,
        )
        request = MESSAGES.get(f"{name}Request", MESSAGES["NodeGetInfoRequest"])
        return method(request(**values), timeout=CALL_TIMEOUT_S, wait_for_ready=True)

    def publish(
        self, volume_id: str, target: Path, package: str, secrets: dict[str, str] | None = None, **more: str
    ) -> None:
        self.call(
            "NodePublishVolume",
            volume_id=volume_id,
            target_path=str(target),
            volume_capability=READER,
            volume_context={"package": package, **more},
            secrets=secrets or {},
        )

    def unpublish(self, volume_id: str, target: Path) -> None:
        self.call("NodeUnpublishVolume", volume_id=volume_id, target_path=str(target))

    def close(self) -> None:
        self._channel.close()


def refusal(call: Any, *values: Any, **more: Any) -> tuple[str, str]:
    """The code and the words with which a call is refused."""
    try:
        call(*values, **more)
    except grpc.RpcError as exc:
        return exc.code().name, exc.details()
    raise AssertionError("it was not refused")


@contextmanager
def driver(around: Surroundings) -> Iterator[Client]:
    """A driver until the block ends; its mounts stay."""
    socket = around.root / "csi.sock"
    command = ["csi", "--endpoint", f"unix://{socket}", "--node-id", "node-1", "--state-dir", str(around.state)]
    with running([*command, *around.options], around) as process:
        client = Client(process, socket)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def running(
    arguments: list[str], around: Surroundings, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A command of fusepkg that says in its log when it is ready, until the block ends."""
    around.logs.append(around.root / f"{len(around.logs)}.log")
    with around.logs[-1].open("wb") as log:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "fusepkg", *arguments],
            env=around.environment, stderr=subprocess.PIPE, stdout=log,
        )  # fmt: skip
        assert process.stderr is not None
        try:
            follow(process.stderr, log)
            yield process
        finally:
            process.send_signal(signal.SIGKILL if before else signal.SIGTERM)  # unshare(1) passes no other one on
            log.write(process.stderr.read())
            process.stderr.close()
            process.wait(STOP_TIMEOUT_S)


def follow(lines: IO[bytes], log: IO[bytes]) -> None:
    """Copy lines until one says that it is ready."""
    for line in lines:
        log.write(line)
        log.flush()
        if b"fusepkg.csi" in line:
            return
    raise AssertionError("it ended before it was ready")


def clear(around: Surroundings) -> None:
    """Take away what a failed test has left."""
    for place, _ in around.mounted():
        subprocess.run(["umount", "-l", place], check=False)


def environment(root: Path) -> dict[str, str]:
    """What a driver finds around it: nothing of AWS, a cache and packages below ``root``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "HOME": str(root),
        "FUSEPKG_CACHE_DIR": str(root / "cache"),
        "FUSEPKG_DATA_DIR": str(root / "data"),
        "FUSEPKG_CONFIG": os.devnull,
        "FUSEPKG_RETRY_TIMEOUT": "0.5",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
