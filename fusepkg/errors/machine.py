"""What this machine refuses: its cache, its operating system, a directory to install into."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class CacheFailure(FusepkgError):
    """The local cache cannot be used."""

    code = "cache"
    exit_code = 11


class SystemFailure(FusepkgError):
    """The operating system refused something: a full disk, a closed output, a file that may not be read."""

    code = "system"
    exit_code = 14


class QueryStopped(SystemFailure):
    """A query was stopped at its deadline, or because it needed more memory than it may have."""

    code = "system.query_stopped"


class InstallError(FusepkgError):
    """A package cannot be written into a directory, or only in part. Files that are there already stay."""

    code = "install"
    exit_code = 13
