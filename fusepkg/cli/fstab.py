"""mount.fusepkg: what mount(8), fstab and systemd call to mount the type ``fusepkg``."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from fusepkg.cli.output import note, print_error
from fusepkg.cli.streams import prepare_streams
from fusepkg.errors import FusepkgError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_S = 60.0
"""How long a bucket that cannot be reached is tried again unless ``retry=`` says otherwise: networks come up late."""

PAUSE_S = 2.0
"""Between two tries."""

_USAGE, _FAILED = 1, 32
"""Exit codes of mount(8): wrong arguments, a mount that failed."""

_FLAGS = {
    "allow_other": "--allow-other",
    "debug": "--debug",
    "local_image": "--local-image",
    "no_sign_request": "--no-sign-request",
    "supervise": "--supervise",
    "xattrs": "--xattrs",
}

_VALUES = {
    name: f"--{name.replace('_', '-')}"
    for name in (
        "cache_dir", "cache_free", "cache_lower", "cache_size", "endpoint_url", "engine", "follow", "prefetch",
        "prefetch_rate", "profile", "region", "replay", "retry_timeout", "times",
    )
}  # fmt: skip
"""Options with a value: those of ``fusepkg mount``, with underscores as file systems write them."""

_ENVIRONMENT = {
    "aws_config": "AWS_CONFIG_FILE",
    "aws_credentials": "AWS_SHARED_CREDENTIALS_FILE",
    "config": "FUSEPKG_CONFIG",
    "data_dir": "FUSEPKG_DATA_DIR",
}
"""Options that name files which a mount at boot, without a home directory, would not find."""

_ALREADY_SO = frozenset(
    {
        "_netdev", "async", "auto", "defaults", "diratime", "exec", "group", "noauto", "noatime", "nodev",
        "nodiratime", "nofail", "norelatime", "nosuid", "nouser", "owner", "relatime", "ro", "strictatime", "user",
        "users",
    }
)  # fmt: skip
"""Options of mount(8) that change nothing here: mounts are read-only, nosuid and nodev, and keep no access times."""

_IMPOSSIBLE = {
    "rw": "a version never changes",
    "remount": "a mount's options stay as they are",
    "suid": "no program of a package gets another user's rights",
    "dev": "a package holds no devices",
    "noexec": "programs in a package can be run",
    "bind": "that is of mount(8) itself",
}


@dataclass(frozen=True, slots=True)
class Call:
    """What mount(8) asked for: arguments of ``fusepkg``, names for the environment, seconds of trying again."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    retry_s: float
    is_fake: bool


def main() -> NoReturn:
    """Mount as mount(8) asks: ``mount.fusepkg REF DIR [-fnsv] [-t TYPE] [-o OPTIONS]``. Ends the process."""
    prepare_streams()
    try:
        call = parse_call(sys.argv[1:])
    except FusepkgError as exc:
        print_error(exc)
        sys.exit(_USAGE)
    if call.is_fake:
        sys.exit(0)
    os.environ.update(call.environment)
    # Our own arguments are what the rest of the program looks at, for --debug and --json.
    sys.argv = ["fusepkg", *call.arguments]
    sys.exit(_mount(call))


def _mount(call: Call) -> int:
    """Mount, again while the bucket does not answer; the exit code."""
    from fusepkg.cli.application import application

    until = time.monotonic() + call.retry_s
    is_told = False
    while True:
        try:
            application(call.arguments)(standalone_mode=False)
        except FusepkgError as exc:
            if not exc.retryable or time.monotonic() + PAUSE_S > until:
                print_error(exc)
                return _USAGE if isinstance(exc, UsageError) else _FAILED
            if not is_told:
                note(f"{exc.message}: trying again for {call.retry_s:.0f} s")
            is_told = True
            time.sleep(PAUSE_S)
        else:
            return 0


def parse_call(arguments: list[str]) -> Call:
    """Understand the arguments of mount(8). Raises UsageError, which names the option that is wrong."""
    places: list[str] = []
    options: list[str] = []
    letters = ""
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-o", "-t", "-N"):
            value = next(rest, None)
            if value is None:
                raise UsageError(f"{argument} lacks its value", hint=_FORM)
            options += value.split(",") if argument == "-o" else ()
        elif argument.startswith("-") and len(argument) > 1:
            letters += argument[1:]
        else:
            places.append(argument)
    if len(places) != 2:
        raise UsageError(f"{len(places)} names instead of a package and a directory", hint=_FORM)
    if unknown := set(letters) - set("fnsvi"):
        raise UsageError(f"there is no -{min(unknown)}", hint=_FORM)
    reference, directory = places
    return _call(reference, directory, [option for option in options if option], letters)


_FORM = "mount -t fusepkg bucket/dataset:tag DIR -o OPTIONS"


def _call(reference: str, directory: str, options: list[str], letters: str) -> Call:
    flags: list[str] = []
    environment: dict[str, str] = {}
    retry_s = RETRY_S
    for option in options:
        name, equals, value = option.partition("=")
        if equals and name == "retry":
            retry_s = _seconds(value)
        elif equals and name in _ENVIRONMENT:
            environment[_ENVIRONMENT[name]] = value
        elif option not in _ALREADY_SO and not name.startswith(("x-", "X-", "comment")):
            flags += _flags_of(option, is_sloppy="s" in letters)
    return Call(("mount", *flags, "--", reference, directory), environment, retry_s, "f" in letters)


def _flags_of(option: str, *, is_sloppy: bool) -> Iterator[str]:
    name, equals, value = option.partition("=")
    if not equals and name in _FLAGS:
        yield _FLAGS[name]
    elif equals and name in _VALUES:
        yield from (_VALUES[name], value)
    elif not equals and name in _VALUES:
        raise UsageError(f"the option {name} lacks its value", hint=f"Write {name}=VALUE")
    elif name in _IMPOSSIBLE:
        raise UsageError(f"the option {name} cannot be: {_IMPOSSIBLE[name]}", hint=f"Leave out {name}")
    elif not is_sloppy:
        known = ", ".join(sorted((*_FLAGS, *(f"{one}=" for one in (*_VALUES, *_ENVIRONMENT, "retry")))))
        raise UsageError(f"there is no option {name}", hint=f"There are {known}, and those of mount(8)")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < 86400:
        raise UsageError(f"retry={text} is no number of seconds below a day", hint="For example retry=120")
    return seconds
