"""The list of commands. A command's module is imported when that command is typed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import typer

from fusepkg.cli import options

if TYPE_CHECKING:
    from collections.abc import Collection

_WORDS = {
    "push": ("push",),
    "pack": ("pack",),
    "mount": ("mount", "umount"),
    "switch": ("switch",),
    "restart": ("restart",),
    "mounts": ("mounts", "stat"),
    "prefetch": ("prefetch",),
    "profile": ("profile",),
    "install": ("install",),
    "image": ("image",),
    "status": ("status",),
    "packages": ("ls", "cat", "hash", "list"),
    "verify": ("verify",),
    "query": ("query",),
    "check": ("check", "spec"),
    "versions": ("diff", "tags", "log", "tag", "rollback"),
    "labels": ("labels",),
    "pool": ("pool",),
    "datasets": ("datasets",),
    "tasks": ("tasks",),
    "transform": ("transform",),
    "snapshot": ("snapshot", "reproduce"),
    "gitdata": ("track", "checkout", "pull", "import", "update"),
    "pipeline": ("stage", "repro", "dag"),
    "builder": ("init", "add", "set", "set-meta", "mv", "rm"),
    "builder_push": ("build-manifest", "push-data", "push-manifest"),
    "cache": ("cache",),
    "top": ("top",),
    "metrics": ("metrics",),
    "csi": ("csi", "csi-mounter"),
    "doctor": ("doctor",),
    "completion": ("completion",),
}
"""Modules in the order in which help lists them, and the commands each registers."""


COMPLETION_VARIABLE = "_FUSEPKG_COMPLETE"
"""Set by a shell that asks what may come next; the script of `completion` does it."""


def application(words: Collection[str] = ()) -> typer.Typer:
    """Return the commands among these words, or all commands if there is none (for help and mistakes)."""
    app = typer.Typer(
        name="fusepkg",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=options.decide_settings,
        cls=options.SettingsAnywhere,
    )
    meant = [module for module, commands in _WORDS.items() if not set(commands).isdisjoint(words)]
    for module in meant or _WORDS:
        import_module(f"fusepkg.cli.{module}").register(app)
    return app
