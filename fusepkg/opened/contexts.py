"""The contexts that packages of a process share: one for each set of settings.

What is open is closed when the interpreter ends. A forked child opens its own and leaves what it inherited alone.
"""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

from fusepkg.app.context import Context
from fusepkg.app.settings import Flags, Settings, decide
from fusepkg.daemon.mounted_files import use_mounted_files

_lock = threading.Lock()
_contexts: dict[Settings, Context] = {}
_flags = Flags()


def configure(
    *,
    cache_dir: Path | str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    no_sign_request: bool = False,
    cache_size: str | None = None,
    cache_free: str | None = None,
    cache_lower: Path | str | None = None,
    retry_timeout: float | None = None,
) -> None:
    """Say for this process what the command line says with flags; packages opened from now on follow it.

    What is left out comes from the environment, the configuration file, or a default.
    """
    use_flags(
        flags_of(
            cache_dir=cache_dir,
            endpoint_url=endpoint_url,
            region=region,
            profile=profile,
            no_sign_request=no_sign_request,
            cache_size=cache_size,
            cache_free=cache_free,
            cache_lower=cache_lower,
            retry_timeout=retry_timeout,
        )
    )


def use_flags(flags: Flags) -> None:
    """Say the same for the process of a command, whose flags are known."""
    global _flags
    _flags = flags


def flags_of(
    *,
    cache_dir: Path | str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    no_sign_request: bool = False,
    cache_size: str | None = None,
    cache_free: str | None = None,
    cache_lower: Path | str | None = None,
    retry_timeout: float | str | None = None,
) -> Flags:
    """Return the flags that a call names, as ``configure`` takes them."""
    return Flags(
        cache_dir=_as_path(cache_dir),
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        no_sign_request=no_sign_request,
        cache_size=cache_size,
        cache_free=cache_free,
        cache_lower=_as_path(cache_lower),
        retry_timeout=None if retry_timeout is None else str(retry_timeout),
    )


def current_flags() -> Flags:
    """Return the flags of the last ``configure``."""
    return _flags


def current_context(flags: Flags | None = None) -> Context:
    """Return the context for these flags, or for those of ``configure``. Raises UsageError for wrong settings."""
    settings = decide(flags or _flags)
    with _lock:
        context = _contexts.get(settings)
        if context is None:
            context = _contexts[settings] = Context(settings)
            use_mounted_files(context)
        return context


def close_contexts() -> None:
    """Close everything that packages of this process have opened. They stay usable: what they need is opened again."""
    with _lock:
        contexts = list(_contexts.values())
    for context in contexts:
        context.close()


def _as_path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path).expanduser()


def _after_fork_in_child() -> None:
    _lock.release()
    for context in _contexts.values():
        context.forget()


atexit.register(close_contexts)

# Held across a fork, so that the child does not inherit it locked by a thread it does not have.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork_in_child)
