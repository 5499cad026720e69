"""A command or call that cannot be understood."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class UsageError(FusepkgError):
    """The command or call cannot be understood."""

    code = "usage"
    exit_code = 2


class InvalidReference(UsageError):
    """A package reference is not of the form ``[scheme://]bucket/name[:tag][@hash]``."""

    code = "usage.invalid_reference"


class MissingExtra(UsageError, ImportError):
    """A library is not installed that only some users need: ``pip install "fusepkg[name]"``."""

    code = "usage.missing_extra"


class QueryInvalid(UsageError):
    """A query is not a SELECT, or names a table, column or function that is not there."""

    code = "usage.query_invalid"


class SpecInvalid(UsageError):
    """What data should be like cannot be understood: an unknown key, a pattern or a schema that is wrong."""

    code = "usage.spec_invalid"
