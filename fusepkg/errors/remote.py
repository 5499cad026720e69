"""Requests to object storage that failed."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class RemoteError(FusepkgError):
    """A request to object storage failed."""

    code = "remote"
    exit_code = 5


class ObjectMissing(RemoteError):
    """The object is not there."""

    code = "remote.object_missing"
    exit_code = 3


class ObjectArchived(RemoteError):
    """The object lies in an archive and cannot be read before it is restored."""

    code = "remote.object_archived"


class ObjectTooLarge(RemoteError):
    """The object is larger than the limit for its kind."""

    code = "remote.object_too_large"


class ObjectExists(RemoteError):
    """A conditional create found an object under the key."""

    code = "remote.object_exists"
    exit_code = 8


class CopyUnsupported(RemoteError):
    """The bucket's server cannot copy the object from where it is."""

    code = "remote.copy_unsupported"


class AccessDenied(RemoteError):
    """The credentials are wrong, expired, or do not allow the request."""

    code = "remote.access_denied"
    exit_code = 4


class CredentialsMissing(AccessDenied):
    """No credentials were found."""

    code = "remote.credentials_missing"


class RemoteUnavailable(RemoteError):
    """The endpoint cannot be reached or keeps failing."""

    code = "remote.unavailable"
    retryable = True


class RemoteTimeout(RemoteUnavailable):
    """The endpoint did not answer in time."""

    code = "remote.timeout"


class RemoteProtocol(RemoteError):
    """The endpoint sent an invalid answer, such as a range of the wrong length."""

    code = "remote.protocol"
