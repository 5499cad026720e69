"""Options several commands share, and the settings they decide."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from fusepkg import __version__
from fusepkg.app.settings import Flags, Settings, decide, parse_amount
from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from types import EllipsisType

    from fusepkg.app.context import Context

_S3 = "Object storage"
_CACHE = "The cache"

RefArgument = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="A package: bucket/name:tag or bucket/name@hash; `local` is the embedded bucket."
    ),
]
DirArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A mounted directory.")]
TimesOption = Annotated[
    str,
    typer.Option(metavar="TIMES", help="Times of files: content (equal if the content is), fixed (1980), or now."),
]
FollowOption = Annotated[
    str | None,
    typer.Option(
        metavar="TAG", help="Show what this tag names, now and whenever it moves [interval: FUSEPKG_FOLLOW_INTERVAL]."
    ),
]
SymlinksOption = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        help="`refuse` symbolic links that lead out of the folder; `follow-outside`: publish what these point to; "
        "`follow`: what any link points to; `keep` all (they can be followed only with `install --outside-links`).",
    ),
]

WhereOption = Annotated[
    str,
    typer.Option(
        "--where",
        metavar="SQL",
        help="Only entries for which this expression is true, over the columns that `query` knows.",
    ),
]
LayoutOption = Annotated[
    str,
    typer.Option("--as", metavar="SQL", help="With --where: an expression that gives each entry a new name."),
]

WorkflowOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The workflow of the bucket to check it by (quilt3's); default: the bucket's default."
    ),
]
NoWorkflowOption = Annotated[
    bool, typer.Option("--no-workflow", help="Check it by no workflow, where the bucket allows that.")
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RateOption = Annotated[
    str | None, typer.Option(metavar="RATE", help="The most that is prefetched in a second: 50MiB/s, 10MB/s.")
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Compare the bytes of objects that older versions name, before they are reused.")
]
PacksOption = Annotated[
    bool | None,
    typer.Option(
        "--packs/--no-packs",
        help="Write small files once more, many to an object, for faster reading; default: except to directories.",
    ),
]
BlockHashesOption = Annotated[
    bool | None,
    typer.Option(
        "--block-hashes/--no-block-hashes",
        help="Hash files above 8 MiB in blocks too, so that reads of parts fetch those; default: of formats that are "
        "read in parts, such as Parquet and HDF5, except for quilt3. It makes another version.",
    ),
]
JsonErrorsOption = Annotated[bool, typer.Option("--json", help="Print an error as JSON for programs.")]

_CacheDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Cache of this machine [FUSEPKG_CACHE_DIR].", rich_help_panel=_CACHE),
]
_CacheSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What it may hold: 20GB, 20GiB, 20% of its disk, none for no bound [FUSEPKG_CACHE_SIZE].",
        rich_help_panel=_CACHE,
    ),
]
_CacheFree = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="What it leaves free on its disk [FUSEPKG_CACHE_FREE].", rich_help_panel=_CACHE),
]
_CacheLower = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Another cache to look into, only read [FUSEPKG_CACHE_LOWER].", rich_help_panel=_CACHE
    ),
]
_RetryTimeout = Annotated[
    str | None,
    typer.Option(
        metavar="SECONDS",
        help="Try a failing read again for so long [FUSEPKG_RETRY_TIMEOUT].",
        rich_help_panel=_S3,
    ),
]
_EndpointUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="S3 endpoint [AWS_ENDPOINT_URL_S3].", rich_help_panel=_S3)
]
_Region = Annotated[str | None, typer.Option(metavar="NAME", help="S3 region [AWS_REGION].", rich_help_panel=_S3)]
_Profile = Annotated[str | None, typer.Option(metavar="NAME", help="AWS profile [AWS_PROFILE].", rich_help_panel=_S3)]
_NoSignRequest = Annotated[
    bool, typer.Option("--no-sign-request", help="Public data: ask without credentials.", rich_help_panel=_S3)
]


def chosen_workflow(name: str | None, none: bool) -> str | EllipsisType | None:
    """Return what two options say of the workflow. Raises UsageError."""
    if name is not None and none:
        raise UsageError("--workflow and --no-workflow exclude each other", hint="Choose one of them")
    return None if none else ... if name is None else name


def parse_rate(text: str | None, source: str) -> int | None:
    """Return bytes per second. Raises UsageError naming the source."""
    if text is None:
        return None
    rate = None
    with suppress(UsageError):
        rate = parse_amount(text.strip().removesuffix("/s"), source).bytes
    if not rate:
        raise UsageError(f"{source} is {text!r}, which is no rate", hint="Write, for example, 50MiB/s")
    return rate


def settings_of(context: typer.Context) -> Settings:
    """Return the settings, which were decided before the command was chosen."""
    settings = context.obj
    assert isinstance(settings, Settings), "the callback of the application sets it"
    return settings


def app_of(context: typer.Context) -> Context:
    """Return the command's Context, which is closed when the command ends."""
    from fusepkg.app.context import Context  # here, because it loads what only commands that open packages need
    from fusepkg.cli.opening import warn_of_cache
    from fusepkg.daemon.mounted_files import use_mounted_files

    app = Context(settings_of(context), lambda reason: warn_of_cache(f"nothing is cached: {reason}"))
    use_mounted_files(app)
    context.call_on_close(app.close)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def decide_settings(
    context: typer.Context,
    cache_dir: _CacheDir = None,
    cache_size: _CacheSize = None,
    cache_free: _CacheFree = None,
    cache_lower: _CacheLower = None,
    endpoint_url: _EndpointUrl = None,
    region: _Region = None,
    profile: _Profile = None,
    no_sign_request: _NoSignRequest = False,
    retry_timeout: _RetryTimeout = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log more, and show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version of fusepkg.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Mount, publish and check immutable versions of datasets in object storage."""
    if debug:
        from fusepkg.daemon.logs import log_to_terminal

        log_to_terminal(debug=True)
    else:
        # Commands tell what matters themselves; without a handler Python would print warnings a second time.
        logging.getLogger("fusepkg").addHandler(logging.NullHandler())
    context.obj = decide(
        Flags(
            cache_dir=cache_dir,
            cache_size=cache_size,
            cache_free=cache_free,
            cache_lower=cache_lower,
            endpoint_url=endpoint_url,
            region=region,
            profile=profile,
            no_sign_request=no_sign_request,
            retry_timeout=retry_timeout,
            debug=debug,
        )
    )


class SettingsAnywhere(typer.core.TyperGroup):
    """Accepts the application's options before and after the command's name, up to ``--``."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - its class differs between releases
        """Run the command. A broken pipe is not left to Typer, which would end with 1, the code for differences."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as exc:
            raise ExceptionGroup("the reader of the output has gone", [exc]) from exc

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - its class differs between releases
        """Move the application's options to the front."""
        end = args.index("--") if "--" in args else len(args)
        takes_value = {
            name: not getattr(param, "is_flag", False)
            for param in self.params
            for name in param.opts
            if name.startswith("--")
        }
        takes_value.pop("--help", None)
        ours: list[str] = []
        others: list[str] = []
        rest = iter(args[:end])
        for argument in rest:
            name, equals, _ = argument.partition("=")
            if name not in takes_value:
                others.append(argument)
                continue
            ours.append(argument)
            if takes_value[name] and not equals and (value := next(rest, None)) is not None:
                ours.append(value)
        return super().parse_args(ctx, [*ours, *others, *args[end:]])
