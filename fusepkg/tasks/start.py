"""Starting a worker that lives on when this process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import SystemFailure
from fusepkg.work.private import make_private_directories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusepkg.app.settings import Flags, Settings
    from fusepkg.model.reference import BucketUrl

_PROGRAM = f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); from fusepkg.cli.main import main; main()"
"""The new interpreter finds fusepkg where this one did."""


def start_worker(bucket: BucketUrl, number: int, settings: Settings, more: Sequence[str] = ()) -> Path:
    """Run a task in a process of its own, which outlives this one, and return its log. Raises SystemFailure.

    ``more`` are words for `tasks run`.
    """
    words = ["tasks", "run", str(bucket), str(number), *more, *words_of(settings.flags)]
    path = settings.cache_dir.absolute() / "logs" / f"task-{str(bucket).rpartition('/')[2]}-{number}.log"
    try:
        make_private_directories(path.parent)
        with open(path, "ab", opener=_private) as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as exc:
        raise SystemFailure(
            f"task {number} is in {bucket}, but no worker could be started: {exc}",
            hint=f"Run it with: fusepkg tasks run {bucket} {number}",
        ) from exc
    threading.Thread(target=process.wait, name=f"fusepkg-worker-{number}", daemon=True).start()  # no zombie is left
    return path


def words_of(flags: Flags) -> list[str]:
    """Return the flags as the command line takes them."""
    named = {
        "--cache-dir": flags.cache_dir and flags.cache_dir.absolute(),
        "--cache-lower": flags.cache_lower and flags.cache_lower.absolute(),
        "--cache-size": flags.cache_size,
        "--cache-free": flags.cache_free,
        "--endpoint-url": flags.endpoint_url,
        "--region": flags.region,
        "--profile": flags.profile,
        "--retry-timeout": flags.retry_timeout,
    }
    words = [word for name, value in named.items() if value is not None for word in (name, str(value))]
    return words + ["--no-sign-request"] * flags.no_sign_request + ["--debug"] * flags.debug


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
