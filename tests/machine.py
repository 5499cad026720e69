"""What a machine must have for the tests that mount or talk to S3; each answer is the reason it cannot, or empty."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.rgw import missing_programs

DEV_FUSE = Path("/dev/fuse")


def why_no_fuse() -> str:
    """Why nothing can be mounted here; empty where it can."""
    if not DEV_FUSE.exists():
        return "/dev/fuse is missing: run in a container with --device /dev/fuse --cap-add SYS_ADMIN, or on a real host"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "fusermount3 is missing and this is not root: apt-get install fuse3"
    try:
        os.close(os.open(DEV_FUSE, os.O_RDWR))
    except OSError as exc:
        return f"/dev/fuse cannot be opened: {exc.strerror}"
    return ""


def why_no_s3() -> str:
    """Why no S3 server can be started here; empty where it can."""
    if missing := missing_programs():
        return f"no S3 server: {', '.join(missing)} missing: make setup (apt-get install ceph-mon ceph-osd radosgw)"
    return ""
