"""docs/reference/config.md: settings, out of the tables below, which its test holds to the code.

python scripts/write_settings.py           writes the page
python scripts/write_settings.py --check   ends with 1 if it is not as it would be written
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.store.s3 import S3Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "config.md"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name in a file, where else it can be given, what it is otherwise."""

    name: str
    flag: str
    variables: tuple[str, ...]
    default: str
    meaning: str


SETTINGS = (
    Setting(
        "cache_dir",
        "--cache-dir",
        ("FUSEPKG_CACHE_DIR",),
        "`$XDG_CACHE_HOME/fusepkg`, `~/.cache/fusepkg`",
        "Data, indexes and logs of this machine.",
    ),
    Setting(
        "cache_size",
        "--cache-size",
        ("FUSEPKG_CACHE_SIZE",),
        "no bound",
        "Room for data in the cache: those unused for longest are dropped. `none` lifts a bound the file sets.",
    ),
    Setting(
        "cache_free",
        "--cache-free",
        ("FUSEPKG_CACHE_FREE",),
        "5 % of the disk, at most 5 GiB",
        "What the cache leaves free on its disk: when there is less, it gives up data. `0`: nothing.",
    ),
    Setting(
        "cache_lower",
        "--cache-lower",
        ("FUSEPKG_CACHE_LOWER",),
        "none",
        "A second cache to look into before the bucket is asked, such as a cluster's shared directory. It is only "
        "read, and what it gives is checked.",
    ),
    Setting(
        "retry_timeout",
        "--retry-timeout",
        ("FUSEPKG_RETRY_TIMEOUT",),
        "30",
        "Seconds for which a read is tried again whose request fails for a reason that may pass (no connection, no "
        "answer, throttling, an error of the server), from its first failure on. Then programs get EIO.",
    ),
    Setting(
        "copy_local",
        "",
        ("FUSEPKG_COPY_LOCAL",),
        "`false`",
        "Copy objects of `local` and `file://` registries into the cache. Otherwise those on a disk of this machine "
        "are read where they lie: `true` is for a disk that may go away.",
    ),
    Setting(
        "data_dir",
        "",
        ("FUSEPKG_DATA_DIR",),
        "`$XDG_DATA_HOME/fusepkg`, `~/.local/share/fusepkg`",
        "The embedded registry: the bucket `local` is the directory `local` in it.",
    ),
    Setting(
        "endpoint_url",
        "--endpoint-url",
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "the AWS profile's, else AWS",
        "Where S3 is.",
    ),
    Setting("region", "--region", ("AWS_REGION", "AWS_DEFAULT_REGION"), "the AWS profile's", "The bucket's region."),
    Setting("profile", "--profile", ("AWS_PROFILE",), "`default`", "The profile of `~/.aws/config` to use."),
    Setting("sign", "--no-sign-request", (), "`true`", "`false`: ask without credentials, for public data."),
    Setting("read_timeout", "", ("FUSEPKG_READ_TIMEOUT",), "30", "Seconds of silence within an answer of S3's."),
    Setting(
        "request_timeout",
        "",
        ("FUSEPKG_REQUEST_TIMEOUT",),
        "300",
        "Seconds for one try of a request to S3, with the whole of its answer: a stalled bucket gives an error then.",
    ),
    Setting(
        "follow_interval",
        "",
        ("FUSEPKG_FOLLOW_INTERVAL",),
        "60",
        "Seconds after which a mount that follows a tag asks again what it names; up to a quarter less or more each "
        "time, so that many machines do not ask at once.",
    ),
    Setting(
        "max_memory",
        "",
        ("FUSEPKG_MAX_MEMORY",),
        "4GiB",
        "Memory of its own that the process of a supervised mount may take, in bytes or as a part of the machine's "
        "(`10%`). If it takes more, or has 80 % of the descriptors it may have, a new process takes its place and no "
        "reader notices; at most every 10 minutes.",
    ),
)
"""All settings of the configuration file, in the order of the page."""

VARIABLES = {
    "FUSEPKG_CONFIG": "The configuration file; without it `$XDG_CONFIG_HOME/fusepkg/config.toml`, "
    "`~/.config/fusepkg/config.toml`. A file named here must exist.",
    "XDG_RUNTIME_DIR": "Mounts are recorded, and their control sockets lie, in `fusepkg` below it; where that "
    "cannot be used in `/tmp/fusepkg-<user id>`. Root's are in `/run/fusepkg`.",
    "AWS_*": "Credentials and everything else about them, as every AWS tool takes them: variables, `~/.aws`, "
    "container and instance roles.",
    "NO_COLOR": "No colours on a terminal.",
}
"""Environment variables that are no setting of the file."""

_FIXED = {
    "attempts": "tries of a request, with growing pauses between them",
    "connect_timeout_s": "seconds until an endpoint that does not answer counts as unreachable, per try",
}

_PAGE = """\
# Settings

<!-- Written by `make docs` from scripts/write_settings.py. Do not edit. -->

A setting is taken from the command line, else from the environment, else from
the configuration file, else it has its default. Options may stand before or
behind the command.

{settings}

{meanings}

`fusepkg cache info` tells which cache is used, and its bounds. An unknown name in
the file is an error, so that a mistyped one is not overlooked.

`cache_size` and `cache_free` are bytes, plain or with a unit, or a part of the
disk the cache lies on: `1000000`, `500MB` (10^6 each), `500MiB` or `500M` (2^20
each), `20%`.

## The file

TOML, for example:

```toml
cache_dir = "/fast/cache"
cache_size = "200GB"
endpoint_url = "https://s3.example.org"
region = "eu-central-1"
```

## Other environment variables

{variables}

## Not settable

How requests to S3 are tried:

{fixed}
"""


def page() -> str:
    """The page, from the tables above."""
    settings = [
        (
            f"`{one.name}`",
            f"`{one.flag}`" if one.flag else "",
            ", ".join(f"`{name}`" for name in one.variables),
            one.default,
        )
        for one in SETTINGS
    ]
    fixed = [(_FIXED[one.name], f"{one.default:g}") for one in fields(S3Settings) if one.name in _FIXED]
    return _PAGE.format(
        settings=_table(("in the file", "option", "environment", "default"), settings),
        meanings="\n".join(f"- `{one.name}`: {one.meaning}" for one in SETTINGS),
        variables=_table(("name", "meaning"), [(f"`{name}`", meaning) for name, meaning in VARIABLES.items()]),
        fixed=_table(("what", "value"), fixed),
    )


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, tuple("---" for _ in columns), *rows))


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` compare it; the exit code."""
    if arguments != ["--check"]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    sys.stdout.write(f"docs/reference/{PAGE.name} is not what the code says: make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
