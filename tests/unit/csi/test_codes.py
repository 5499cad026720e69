"""Each error has its answer."""

from __future__ import annotations

import pytest

from fusepkg import errors
from fusepkg.csi.codes import Refused, answer_to


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidReference("x"), "INVALID_ARGUMENT"),
        (errors.MissingExtra("x"), "INVALID_ARGUMENT"),
        (errors.TagNotFound("x"), "NOT_FOUND"),
        (errors.ManifestInvalid("x"), "DATA_LOSS"),
        (errors.DigestMismatch("x"), "DATA_LOSS"),
        (errors.CredentialsMissing("x"), "UNAUTHENTICATED"),
        (errors.AccessDenied("x"), "PERMISSION_DENIED"),
        (errors.RemoteTimeout("x"), "DEADLINE_EXCEEDED"),
        (errors.RemoteUnavailable("x"), "UNAVAILABLE"),
        (errors.DaemonNotRunning("x"), "UNAVAILABLE"),
        (errors.MountpointUnfit("x"), "FAILED_PRECONDITION"),
        (errors.MountFailed("x"), "INTERNAL"),
        (Refused("ABORTED", "x"), "ABORTED"),
        (ValueError("x"), "INTERNAL"),
    ],
)
def test_the_answer_to_an_error(error: Exception, code: str) -> None:
    answered, words = answer_to(error)
    assert answered.name == code
    assert "x" in words


def test_the_hint_is_told_too() -> None:
    assert answer_to(errors.UsageError("no engine 'x'", hint="There are two"))[1] == "no engine 'x'. There are two"
