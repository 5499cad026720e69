"""The command doctor: a report on this machine to paste into an issue. It contains no secrets."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from fusepkg import __version__
from fusepkg.cli.options import JsonOption, app_of
from fusepkg.cli.output import human_bytes, print_json, say
from fusepkg.daemon import records, runtime
from fusepkg.engines import kernel
from fusepkg.errors import FusepkgError
from fusepkg.work.versions import library_versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.app.context import Context

_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
"""Parts of names of variables whose values are not shown."""

_SHOWN = ("FUSEPKG_", "AWS_", "XDG_", "HOME", "TMPDIR", "LANG", "LC_ALL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(context: typer.Context, as_json: JsonOption = False) -> None:
    """Tell what this machine has and lacks: kernel, engines, cache, credentials (without secrets), mounts."""
    app = app_of(context)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "fusepkg": _versions,
        "machine": _machine,
        "engines": _engines,
        "settings": lambda: _settings(app),
        "cache": lambda: _cache(app),
        "credentials": lambda: _credentials(app),
        "environment": _environment,
        "mounts": _mounts,
    }
    facts = {name: _asked(tell) for name, tell in parts.items()}
    if as_json:
        print_json(facts)
        return
    for name, values in facts.items():
        say(f"{name}:")
        for key, value in values.items():
            say(f"  {key + ':':<22} {value}")


def _asked(tell: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the lines of one part of the report, or the reason why it failed."""
    try:
        return tell()
    except FusepkgError as exc:
        return {"error": str(exc), "code": exc.code}
    except OSError as exc:
        return {"error": str(exc)}


def _versions() -> dict[str, Any]:
    return {"version": __version__, "python": platform.python_version(), "executable": sys.executable} | (
        library_versions("pyfuse3", "trio", "boto3", "httptools", "lmdb", "typer")
    )


def _machine() -> dict[str, Any]:
    return {
        "system": " ".join((platform.system(), platform.release(), platform.machine())),
        "distribution": _distribution(),
        "cores": os.cpu_count(),
        "memory": human_bytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "user id": os.geteuid(),
        "container": _container(),
    }


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return "unknown"


def _container() -> str:
    signs = [mark for mark in ("/.dockerenv", "/run/.containerenv") if Path(mark).exists()]
    return signs[0] if signs else os.environ.get("container", "no sign of one")  # noqa: SIM112 - systemd's own name


def _engines() -> dict[str, Any]:
    return {
        "erofs": kernel.why_no_erofs() or "can run",
        "fuse": kernel.why_no_fuse() or "can run",
        "fusermount3": kernel.fusermount() or "not installed",
        "may mount": kernel.may_mount(),
        "user_allow_other": _allows_others(),
    }


def _allows_others() -> bool:
    try:
        lines = Path("/etc/fuse.conf").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def _settings(app: Context) -> dict[str, Any]:
    settings = app.settings
    shown = {name: value for name, value in asdict(settings.s3).items() if value is not None}
    if settings.s3.endpoint_url:
        shown["endpoint_url"] = _without_password(settings.s3.endpoint_url)
    places = {
        "cache directory": _place(settings.cache_dir),
        "data directory": _place(settings.data_dir),
        "runtime directory": str(runtime.runtime_directory()),
    }
    return places | shown


def _place(path: Path) -> str:
    try:
        disk = os.statvfs(path)
    except OSError as exc:
        return f"{path} ({exc.strerror})"
    may = "" if os.access(path, os.W_OK | os.X_OK) else ", cannot be written to"
    return f"{path} ({human_bytes(disk.f_bavail * disk.f_frsize)} free{may})"


def _cache(app: Context) -> dict[str, Any]:
    facts = app.cache().info()
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(facts).items()}


def _credentials(app: Context) -> dict[str, Any]:
    from fusepkg.store.s3.description import describe_credentials

    return describe_credentials(app.settings.s3)


def _environment() -> dict[str, Any]:
    return {
        name: "(set)" if any(part in name.upper() for part in _SECRET) else _without_password(value)
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(_SHOWN)
    }


def _without_password(value: str) -> str:
    """Return a URL without its user name and password."""
    return re.sub(r"//[^/@\s]*@", "//...@", value)


def _mounts() -> dict[str, Any]:
    found = records.read_records()
    told: dict[str, Any] = {}
    for record in found:
        facts = msgspec.to_builtins(record)
        shown = ", ".join(f"{name} {facts[name]}" for name in ("engine", "pid", "supervisor", "log"))
        told[record.mountpoint] = f"{record.reference}, {shown}, {'alive' if records.is_alive(record) else 'dead'}"
    for mount in records.unrecorded_mounts(found):
        told[os.fsdecode(mount.path)] = f"{os.fsdecode(mount.source)}, without a record"
    return told
