"""Options several commands share.

Owns: their names, help texts and types. Must not know: what a command does with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.settings import Flags, Settings, decide

_S3 = "Object storage"

RefArgument = Annotated[
    str, typer.Argument(metavar="REF", help="A package: bucket/name[:tag][@hash]; `local` is the embedded bucket.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def settings_of(context: typer.Context) -> Settings:
    """The settings decided before the command was chosen."""
    settings = context.obj
    assert isinstance(settings, Settings), "the callback of the application sets it"
    return settings


def decide_settings(
    context: typer.Context,
    cache_dir: Annotated[Path | None, typer.Option(help="Cache of this machine [FUSEPKG_CACHE_DIR].")] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="S3 endpoint [AWS_ENDPOINT_URL_S3].", rich_help_panel=_S3)
    ] = None,
    region: Annotated[str | None, typer.Option(help="S3 region [AWS_REGION].", rich_help_panel=_S3)] = None,
    profile: Annotated[str | None, typer.Option(help="AWS profile [AWS_PROFILE].", rich_help_panel=_S3)] = None,
    no_sign_request: Annotated[
        bool, typer.Option("--no-sign-request", help="Public data: ask without credentials.", rich_help_panel=_S3)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log more, and show tracebacks.")] = False,
) -> None:
    """Mount, publish and check immutable versions of datasets in object storage."""
    context.obj = decide(Flags(cache_dir, endpoint_url, region, profile, no_sign_request, debug))
