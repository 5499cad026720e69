"""Ctrl-C while a bucket does not answer: the command ends at once, and leaves nothing half uploaded."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.proxy import Stall

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.proxy import Proxy
    from tests.rgw import Gateway

pytestmark = pytest.mark.s3

END_TIMEOUT_S = 20.0
"""Far below what a command waits for a bucket by itself: 30 s of silence, three times."""


def interrupt(command: Sequence[object], proxy: Proxy, operation: str) -> tuple[int, bytes]:
    """Run a command until its first request of that kind stalls, interrupt it; its exit code and what it said."""
    already = sum(request.operation == operation for request in proxy.requests)
    process = subprocess.Popen(
        [sys.executable, "-m", "fusepkg", *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        proxy.wait_for(already + 1, operation=operation)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=END_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, said


@pytest.mark.parametrize(
    ("operation", "size"),
    [("PutObject", 10), ("HeadObject", 10), ("ListObjects", 10), ("UploadPart", 65 << 20)],
)
def test_an_interrupted_push_ends_at_once(
    proxy: Proxy, s3: Gateway, fusepkg: Fusepkg, tmp_path: Path, operation: str, size: int
) -> None:
    bucket = s3.bucket()
    (tmp_path / "folder").mkdir()
    with (tmp_path / "folder" / "a").open("wb") as file:
        file.truncate(size)
    push = ["push", tmp_path / "folder", f"s3://{bucket}/data"]
    proxy.fail(Stall(), operation=operation, times=None)
    assert interrupt(push, proxy, operation) == (130, b"")
    proxy.heal()
    assert "Uploads" not in s3.s3.list_multipart_uploads(Bucket=bucket)
    assert not [item for item in s3.s3.list_objects_v2(Bucket=bucket).get("Contents", ()) if ".quilt" in item["Key"]]
    fusepkg(*push)


def test_an_interrupted_read_ends_at_once(proxy: Proxy, s3: Gateway, fusepkg: Fusepkg, tmp_path: Path) -> None:
    bucket = s3.bucket()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()
    fusepkg("push", tmp_path / "folder", f"s3://{bucket}/data")
    proxy.fail(Stall(), operation="GetObject", times=None)
    assert interrupt(["ls", f"s3://{bucket}/data"], proxy, "GetObject") == (130, b"")
