"""What a job ran in: the interpreter and its packages, lock files, the container."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCK_FILES = (
    "requirements.txt", "requirements.lock", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pixi.lock",
    "environment.yml", "conda-lock.yml", "pyproject.toml",
)  # fmt: skip
"""Copied into the snapshot where they lie in the job's directory."""

_CONTAINER_FILES = (Path("/run/.containerenv"), Path("/.dockerenv"))
"""Podman's, which names the image, and Docker's, which is empty."""

_TIMEOUT_S = 60

_LIST_PACKAGES = """
import importlib.metadata as metadata, json, platform
found = {}
for one in metadata.distributions():
    name = one.metadata["Name"]
    if name:
        source = json.loads(one.read_text("direct_url.json") or "{}")
        commit = source.get("vcs_info", {}).get("commit_id")
        at = f"{name} @ {source['vcs_info']['vcs']}+{source['url']}@{commit}" if commit else None
        found.setdefault(name.lower().replace("_", "-"), at or f"{name}=={one.version}")
print(json.dumps({"python": platform.python_version(), "packages": [found[name] for name in sorted(found)]}))
"""


def look_at_environment(command: Sequence[str], python: str | None, image: str | None) -> tuple[dict[str, Any], str]:
    """Return what is known of the environment, and its packages as pip reads them. Raises UsageError.

    The packages are those of ``python``; by default of the interpreter that the command starts with, else of the first
    one in PATH.
    """
    interpreter = python or _interpreter(command)
    try:
        done = subprocess.run(
            [interpreter, "-c", _LIST_PACKAGES], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        raise UsageError(f"{interpreter} cannot list its packages", hint="Name the job's Python with --python") from exc
    container = next((path for path in _CONTAINER_FILES if path.exists()), None)
    facts = {
        "python": found["python"],
        "platform": f"{platform.system()} {platform.machine()}",
        "container": container is not None,
        "image": image or _image(container),
    }
    return facts, "".join(f"{line}\n" for line in found["packages"])


def _interpreter(command: Sequence[str]) -> str:
    first = os.path.basename(command[0]) if command else ""
    if first.startswith("python") and (found := shutil.which(command[0])):
        return found
    return shutil.which("python3") or sys.executable


def _image(container: Path | None) -> str | None:
    """Return the image and its digest where the container tells them, as Podman does."""
    try:
        text = container.read_text() if container else ""
    except OSError:
        return None
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    parts = [said[name].strip('"') for name in ("image", "imageid") if said.get(name)]
    return "@".join(parts) or None
