"""Which answer of gRPC each error is: the one table."""

from __future__ import annotations

from fusepkg import errors
from fusepkg.csi.libraries import grpc

_CODES = {
    errors.FusepkgError: "INTERNAL",
    errors.UsageError: "INVALID_ARGUMENT",
    errors.PackageError: "NOT_FOUND",
    errors.ManifestInvalid: "DATA_LOSS",
    errors.UnsupportedFormat: "FAILED_PRECONDITION",
    errors.PackTableInvalid: "DATA_LOSS",
    errors.IntegrityError: "DATA_LOSS",
    errors.RemoteError: "UNAVAILABLE",
    errors.ObjectMissing: "NOT_FOUND",
    errors.AccessDenied: "PERMISSION_DENIED",
    errors.CredentialsMissing: "UNAUTHENTICATED",
    errors.RemoteTimeout: "DEADLINE_EXCEEDED",
    errors.CacheFailure: "RESOURCE_EXHAUSTED",
    errors.ControlError: "UNAVAILABLE",
    errors.MountpointUnfit: "FAILED_PRECONDITION",
    errors.EngineUnavailable: "FAILED_PRECONDITION",
    errors.MountpointBusy: "ABORTED",
}
"""The next class above that is here decides: what Kubernetes tries again (all of them) it shows to users as it is."""


class Refused(Exception):
    """An answer that the specification asks for by its code, and that is no failure of fusepkg."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def answer_to(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the code and the words that the caller gets for an error."""
    if isinstance(error, Refused):
        return grpc.StatusCode[error.code], error.message
    for kind in type(error).__mro__:
        if kind in _CODES:
            return grpc.StatusCode[_CODES[kind]], str(error)
    return grpc.StatusCode.INTERNAL, f"a bug in fusepkg: {error!r}"
