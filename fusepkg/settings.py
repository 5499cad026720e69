"""Where settings come from: flag, then environment, then file, then default.

Owns: the names of settings and the configuration file. Must not know: what any of them does; below the command line
and the Python API they travel as plain values.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from fusepkg.errors import UsageError
from fusepkg.store.s3 import S3Settings

_FILE_KEYS = {"cache_dir": str, "data_dir": str, "endpoint_url": str, "region": str, "profile": str, "sign": bool}
"""What a configuration file may hold, and of which type."""


@dataclass(frozen=True, slots=True)
class Flags:
    """The settings given on the command line, or in a call; None or False where not."""

    cache_dir: Path | None = None
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    no_sign_request: bool = False
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, decided."""

    cache_dir: Path
    data_dir: Path
    s3: S3Settings
    debug: bool

    @property
    def indexes_dir(self) -> Path:
        """Where indexes are kept."""
        return self.cache_dir / "index"

    @property
    def remembered_dir(self) -> Path:
        """Where what may be forgotten is kept."""
        return self.cache_dir / "remembered"

    @property
    def blobs_dir(self) -> Path:
        """The cache of blobs."""
        return self.cache_dir / "blobs"


def decide(flags: Flags) -> Settings:
    """Combine all sources. Raises UsageError naming the source that is wrong."""
    file = _read_file()

    def text(name: str) -> str | None:
        value = file.get(name)
        return value if isinstance(value, str) else None

    cache_dir = flags.cache_dir or _env_path("FUSEPKG_CACHE_DIR") or _path(text("cache_dir"))
    data_dir = _env_path("FUSEPKG_DATA_DIR") or _path(text("data_dir"))
    return Settings(
        cache_dir=(cache_dir or _xdg("XDG_CACHE_HOME", ".cache") / "fusepkg").absolute(),
        data_dir=(data_dir or _xdg("XDG_DATA_HOME", ".local/share") / "fusepkg").absolute(),
        s3=S3Settings(
            endpoint_url=flags.endpoint_url or (text("endpoint_url") if not _aws_endpoint() else None),
            region=flags.region or (text("region") if not _aws_region() else None),
            profile=flags.profile or (text("profile") if "AWS_PROFILE" not in os.environ else None),
            sign=not flags.no_sign_request and file.get("sign", True) is not False,
        ),
        debug=flags.debug,
    )


def config_path() -> Path:
    """The configuration file, whether or not it is there."""
    return _env_path("FUSEPKG_CONFIG") or _xdg("XDG_CONFIG_HOME", ".config") / "fusepkg" / "config.toml"


def _read_file() -> dict[str, object]:
    path = config_path()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        if "FUSEPKG_CONFIG" in os.environ:
            raise UsageError(f"FUSEPKG_CONFIG names {path}, which does not exist") from exc
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"the configuration file {path} cannot be read: {exc}") from exc
    for name, value in content.items():
        if name not in _FILE_KEYS:
            raise UsageError(f"{path}: unknown setting {name!r}", hint=f"Known are {', '.join(_FILE_KEYS)}")
        if not isinstance(value, _FILE_KEYS[name]):
            raise UsageError(f"{path}: {name} must be of type {_FILE_KEYS[name].__name__}")
    return content


def _aws_endpoint() -> bool:
    return "AWS_ENDPOINT_URL_S3" in os.environ or "AWS_ENDPOINT_URL" in os.environ


def _aws_region() -> bool:
    return "AWS_REGION" in os.environ or "AWS_DEFAULT_REGION" in os.environ


def _xdg(variable: str, default: str) -> Path:
    return _env_path(variable) or Path.home() / default


def _env_path(variable: str) -> Path | None:
    return _path(os.environ.get(variable))


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None
