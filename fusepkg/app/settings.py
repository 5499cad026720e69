"""Where settings come from: flag, then environment, then file, then default."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusepkg.errors import UsageError
from fusepkg.fetch.caching import DEFAULT_FREE, Amount, CacheSettings
from fusepkg.fetch.retries import RETRY_TIMEOUT_S
from fusepkg.store.s3 import S3Settings

_FILE_KEYS: dict[str, tuple[type, ...]] = {
    "cache_dir": (str,),
    "cache_size": (str, int),
    "cache_free": (str, int),
    "cache_lower": (str,),
    "retry_timeout": (str, int, float),
    "copy_local": (bool,),
    "data_dir": (str,),
    "endpoint_url": (str,),
    "region": (str,),
    "profile": (str,),
    "sign": (bool,),
    "read_timeout": (int, float),
    "request_timeout": (int, float),
    "follow_interval": (int, float),
    "max_memory": (str, int),
}
"""What a configuration file may hold, and of which types."""

MAX_RETRY_TIMEOUT_S = 86400

FOLLOW_INTERVAL_S = 60.0
"""How often a mount that follows a tag asks what it names."""

MAX_MEMORY = Amount(bytes=4 * 1024**3)
"""What the process of a supervised mount may take before another one takes its place."""

_NO_BOUND = "none"
"""The cache size that lifts what a setting of lower rank says."""

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(%|[kmgtp]?i?b?)", re.IGNORECASE)
_PREFIXES = "kmgtp"
_AMOUNT_FORM = "Write bytes (20GB, 500MiB, 1000000) or a part of the disk (20%)"


@dataclass(frozen=True, slots=True)
class Flags:
    """The settings given on the command line, or in a call; None or False where not."""

    cache_dir: Path | None = None
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    no_sign_request: bool = False
    debug: bool = False
    cache_size: str | None = None
    cache_free: str | None = None
    cache_lower: Path | None = None
    retry_timeout: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, decided."""

    cache_dir: Path
    data_dir: Path
    s3: S3Settings
    cache: CacheSettings
    debug: bool
    retry_timeout_s: float = RETRY_TIMEOUT_S
    follow_interval_s: float = FOLLOW_INTERVAL_S
    max_memory: Amount = MAX_MEMORY
    """A part is one of the machine's memory."""
    copy_local: bool = False
    """Objects that are files on a disk of this machine are copied into the cache, not read where they lie."""
    flags: Flags = Flags()
    """Where they came from: a process that decides again, on another machine perhaps, begins with these."""

    @property
    def indexes_dir(self) -> Path:
        """Where indexes are kept."""
        return self.cache_dir / "index"

    @property
    def images_dir(self) -> Path:
        """Where the disk images of mounts with --local-image are kept."""
        return self.cache_dir / "images"

    @property
    def hints_dir(self) -> Path:
        """Where hints are kept: what saves work and may be lost."""
        return self.cache_dir / "remembered"


def decide(flags: Flags) -> Settings:
    """Combine all sources. Raises UsageError naming the source that is wrong."""
    file = _read_file()

    def text(name: str) -> str | None:
        value = file.get(name)
        return value if isinstance(value, str) else None

    cache_dir = _cache_dir(flags, text("cache_dir"))
    cache_lower = flags.cache_lower or _env_path("FUSEPKG_CACHE_LOWER") or _path(text("cache_lower"))
    data_dir = _env_path("FUSEPKG_DATA_DIR") or _path(text("data_dir"))
    return Settings(
        cache_dir=cache_dir,
        data_dir=(data_dir or _xdg("XDG_DATA_HOME", ".local/share", "FUSEPKG_DATA_DIR")).absolute(),
        s3=S3Settings(
            endpoint_url=flags.endpoint_url or (text("endpoint_url") if not _aws_endpoint() else None),
            region=flags.region or (text("region") if not _aws_region() else None),
            profile=flags.profile or (text("profile") if "AWS_PROFILE" not in os.environ else None),
            sign=not flags.no_sign_request and file.get("sign", True) is not False,
            read_timeout_s=_seconds("read_timeout", file, S3Settings().read_timeout_s),
            request_timeout_s=_seconds("request_timeout", file, S3Settings().request_timeout_s),
        ),
        cache=CacheSettings(
            directory=cache_dir / "blobs",
            size=_cache_size(*_said("cache_size", flags.cache_size, file)),
            free=_cache_free(*_said("cache_free", flags.cache_free, file)),
            lower=cache_lower.absolute() if cache_lower else None,
        ),
        debug=flags.debug,
        retry_timeout_s=_retry_timeout(*_said("retry_timeout", flags.retry_timeout, file)),
        follow_interval_s=_seconds("follow_interval", file, FOLLOW_INTERVAL_S),
        max_memory=_max_memory(*_said("max_memory", None, file)),
        copy_local=_yes(*_said("copy_local", None, file)),
        flags=flags,
    )


def parse_amount(text: str, source: str) -> Amount:
    """``20GB`` (10^9 bytes each), ``20GiB`` or ``20G`` (2^30, as in dd(1)), ``1000``, or ``20%`` of the disk.

    Raises UsageError naming the source.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{source} is {text!r}, which is no amount of room on a disk", hint=_AMOUNT_FORM)
    number, unit = float(found[1]), found[2].lower()
    if unit == "%":
        if number > 100:
            raise UsageError(f"{source} is {text!r}, more than the disk has", hint=_AMOUNT_FORM)
        return Amount(part=number / 100)
    if unit.startswith("i"):
        raise UsageError(f"{source} is {text!r}, which is no amount of room on a disk", hint=_AMOUNT_FORM)
    power = _PREFIXES.find(unit[:1]) + 1 if unit[:1] in tuple(_PREFIXES) else 0
    base = 1000 if unit.endswith("b") and "i" not in unit else 1024
    return Amount(bytes=int(number * base**power))


def _cache_dir(flags: Flags, in_file: str | None) -> Path:
    """Where the cache lies. That it cannot be used is no concern here; that it is no directory is a mistake."""
    if flags.cache_dir:
        path, source = flags.cache_dir, "--cache-dir"
    elif found := _env_path("FUSEPKG_CACHE_DIR"):
        path, source = found, "FUSEPKG_CACHE_DIR"
    elif found := _path(in_file):
        path, source = found, f"cache_dir in {config_path()}"
    else:
        path, source = _xdg("XDG_CACHE_HOME", ".cache", "FUSEPKG_CACHE_DIR"), "the default of cache_dir"
    path = path.absolute()
    if _is_file(path):
        raise UsageError(f"{source} is {path}, which is not a directory", hint="Name a directory, which need not exist")
    return path


def _is_file(path: Path) -> bool:
    """Return whether a path exists and is a file, or one above it is; False if it cannot be read."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except NotADirectoryError:
        return True
    except OSError:
        return False


def _seconds(name: str, file: dict[str, object], default: float) -> float:
    text, source = _said(name, None, file)
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{source} is {text!r}, which is no number of seconds", hint="Write for example 30")
    return seconds


def _said(name: str, flag: str | None, file: dict[str, object]) -> tuple[str, str]:
    """What one setting is, and where that was said; both empty where nowhere."""
    variable = f"FUSEPKG_{name.upper()}"
    if flag is not None:
        return flag, f"--{name.replace('_', '-')}"
    if os.environ.get(variable):
        return os.environ[variable], variable
    return (str(file[name]), f"{name} in {config_path()}") if name in file else ("", "")


def _cache_size(text: str, source: str) -> Amount | None:
    return parse_amount(text, source) if source and text.lower() != _NO_BOUND else None


def _cache_free(text: str, source: str) -> Amount:
    return parse_amount(text, source) if source else DEFAULT_FREE


def _max_memory(text: str, source: str) -> Amount:
    return parse_amount(text, source) if source else MAX_MEMORY


def _yes(text: str, source: str) -> bool:
    """Return whether a setting is on. Raises UsageError naming the source."""
    if text.lower() not in ("", "0", "false", "no", "1", "true", "yes"):
        raise UsageError(f"{source} is {text!r}, which is neither yes nor no", hint="Write 1 or 0")
    return text.lower() in ("1", "true", "yes")


def _retry_timeout(text: str, source: str) -> float:
    """Return seconds. Raises UsageError naming the source."""
    if not source:
        return RETRY_TIMEOUT_S
    try:
        seconds = float(text.strip().removesuffix("s"))
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= MAX_RETRY_TIMEOUT_S:
        raise UsageError(f"{source} is {text!r}, which is no time", hint="Write seconds: 30, 0.5, 600s; a day at most")
    return seconds


def config_path() -> Path | None:
    """Return the configuration file, whether or not it is there; None for a user without a home directory."""
    with suppress(UsageError):
        return _env_path("FUSEPKG_CONFIG") or _xdg("XDG_CONFIG_HOME", ".config", "FUSEPKG_CONFIG") / "config.toml"
    return None


def _read_file() -> dict[str, object]:
    path = config_path()
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        if "FUSEPKG_CONFIG" in os.environ:
            raise UsageError(f"FUSEPKG_CONFIG names {path}, which does not exist") from exc
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the configuration file {path} cannot be read: {exc}") from exc
    if not text.strip():
        return {}
    from fusepkg.state.trusted_file import hint_for, why_not_ours  # here, for the same reason as tomllib below

    if path.is_file() and (why := why_not_ours(path)):
        raise UsageError(f"the configuration file {path} is not used: it {why}", hint=hint_for(path))
    return _checked(text, path)


def _checked(text: str, path: Path) -> dict[str, object]:
    import tomllib  # here, because most machines have no configuration file

    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"the configuration file {path} cannot be read: {exc}") from exc
    for name, value in content.items():
        if name not in _FILE_KEYS:
            raise UsageError(f"{path}: unknown setting {name!r}", hint=f"Known are {', '.join(_FILE_KEYS)}")
        kinds = _FILE_KEYS[name]
        if type(value) not in kinds:  # not isinstance: true would be an int
            raise UsageError(f"{path}: {name} must be of type {' or '.join(kind.__name__ for kind in kinds)}")
    return content


def _aws_endpoint() -> bool:
    return "AWS_ENDPOINT_URL_S3" in os.environ or "AWS_ENDPOINT_URL" in os.environ


def _aws_region() -> bool:
    return "AWS_REGION" in os.environ or "AWS_DEFAULT_REGION" in os.environ


def _xdg(variable: str, default: str, ours: str) -> Path:
    """Return fusepkg's directory below one of the user's own. ``ours`` is the variable that would name it."""
    return (_env_path(variable) or _home(f"Set HOME, or {ours}") / default) / "fusepkg"


def _home(hint: str) -> Path:
    """Return the user's home directory. Raises UsageError for a user that has none, as in some containers."""
    try:
        return Path.home()
    except RuntimeError as exc:
        raise UsageError(
            f"user {os.geteuid()} has no home directory: HOME is not set, and there is no passwd entry", hint=hint
        ) from exc


def _env_path(variable: str) -> Path | None:
    return _path(os.environ.get(variable))


def _path(text: str | None) -> Path | None:
    if not text:
        return None
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:
        raise UsageError(f"{text}: that home directory is not known", hint="Write the whole path") from exc
