"""Real disks that are full, read-only or odd: programs in a mount namespace of their own, which ends with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def in_namespace(tmp_path: Path, mount: str, program: str) -> dict[str, object]:
    """What a program prints as JSON that runs with ``mount`` done, as root of a namespace of its own."""
    enter = ["unshare", "--mount", "--map-root-user"] if os.geteuid() else ["unshare", "--mount"]
    if subprocess.run([*enter, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("needs a mount namespace of its own: root, or unprivileged user namespaces")
    if "-o loop" in mount and os.geteuid():
        pytest.skip("needs a loop device: root")
    (tmp_path / "disk").mkdir()
    (tmp_path / "program.py").write_text(
        "import json\nfrom pathlib import Path\nfrom fusepkg_cache import *\n"
        "from tests.unit.cache.blobs import LARGE, SMALL, blob\n"
        "def outcome(call, *arguments):\n"
        "    try:\n        call(*arguments)\n"
        "    except CacheError as exc:\n        return type(exc).__name__\n"
        "    return 'done'\n" + program
    )
    done = subprocess.run(
        [*enter, "sh", "-c", f"{mount} && exec {sys.executable} program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/cache"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result
