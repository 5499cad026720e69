"""The errno table is total, and every handler is behind the guard."""

from __future__ import annotations

import errno
import inspect
import logging
from collections.abc import Iterator

import pyfuse3
import pytest

from fusepkg import errors
from fusepkg.engines.device_operations import DeviceOperations
from fusepkg.engines.errnos import ERRNOS, errno_of, worst
from fusepkg.engines.handlers import guarded
from fusepkg.engines.tree_operations import TreeOperations

NOT_CALLED_BY_THE_KERNEL = {
    "init",
    "stacktrace",
    "forget",
    "release",
    "releasedir",
    "flush",
    "fsync",
    "fsyncdir",
    "access",
}
"""Handlers that do nothing at all, and so have nothing to guard."""


def all_errors(kind: type[errors.FusepkgError] = errors.FusepkgError) -> Iterator[type[errors.FusepkgError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_errors(below)


@pytest.mark.parametrize("kind", list(all_errors()), ids=lambda kind: kind.__name__)
def test_every_error_has_an_errno(kind):
    error = kind("text")
    number, level = errno_of(error)
    assert number in errno.errorcode
    assert level in (logging.DEBUG, logging.WARNING, logging.ERROR)
    if issubclass(kind, errors.FsError) and kind is not errors.FsError:
        assert kind in ERRNOS, "a file-system answer has a row of its own"


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.NoEntry("x"), errno.ENOENT),
        (errors.ReadOnly("x"), errno.EROFS),
        (errors.ObjectMissing("x"), errno.EIO),
        (errors.DigestMismatch("x"), errno.EIO),
        (errors.CredentialsMissing("x"), errno.EACCES),
        (errors.RemoteTimeout("x"), errno.ETIMEDOUT),
        (ValueError("a bug"), errno.EIO),
    ],
)
def test_the_most_specific_row_wins(error, number):
    assert errno_of(error)[0] == number


def test_several_failures_of_one_request_become_one():
    denied = errors.AccessDenied("no")
    bug = ValueError("a bug")
    assert worst(ExceptionGroup("", [ExceptionGroup("", [denied])])) is denied
    assert worst(ExceptionGroup("", [denied, bug])) is bug


@pytest.mark.parametrize("operations", [TreeOperations, DeviceOperations])
def test_every_handler_is_guarded(operations):
    handlers = {
        name
        for name, member in inspect.getmembers(pyfuse3.Operations, inspect.isfunction)
        if not name.startswith("_") and name not in NOT_CALLED_BY_THE_KERNEL
    }
    inherited = {name for name in handlers if getattr(operations, name) is getattr(pyfuse3.Operations, name)}
    # What pyfuse3 answers itself is FUSEError(ENOSYS), which the kernel remembers.
    unguarded = {name for name in handlers - inherited if not getattr(getattr(operations, name), "is_guarded", False)}
    assert not unguarded
    assert {"lookup", "getattr", "open", "read", "readdir", "statfs"} <= handlers - inherited


async def test_a_bug_in_a_handler_is_eio_and_logged(caplog):
    @guarded
    async def handler() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(pyfuse3.FUSEError) as caught:
        await handler()
    assert caught.value.errno == errno.EIO
    assert "which is a bug" in caplog.text
    assert "ZeroDivisionError" in caplog.text


class Panic(BaseException):
    """As native libraries raise it."""


@pytest.mark.parametrize(
    "error",
    [Panic("in native code"), SystemExit(1), KeyboardInterrupt(), BaseExceptionGroup("", [Panic("in native code")])],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_library_raises_is_eio_and_the_session_goes_on(error, caplog):
    @guarded
    async def handler() -> None:
        raise error

    with pytest.raises(pyfuse3.FUSEError) as caught:
        await handler()
    assert caught.value.errno == errno.EIO
    assert "which is a bug" in caplog.text


async def test_cancellation_passes_the_guard_beside_another_error():
    import trio

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Panic("in native code")

    @guarded
    async def handler() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            nursery.start_soon(trio.sleep_forever)

    with trio.move_on_after(0) as scope:
        await handler()
    assert scope.cancelled_caught


async def test_cancellation_passes_the_guard():
    import trio

    @guarded
    async def handler() -> None:
        await trio.sleep_forever()

    with trio.move_on_after(0) as scope:
        await handler()
    assert scope.cancelled_caught
