"""What all FUSE handlers of both engines share: the guard against exceptions, and refusal of every write.

A handler exception other than FUSEError ends the whole session, so every handler goes through ``guarded``. Native
libraries raise BaseException when they panic, so that is caught too; only ``trio.Cancelled`` must pass.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import FileHandleT, FileInfo, InodeT, RequestContext

from fusepkg.engines.errnos import errno_of, worst
from fusepkg.errors import FusepkgError

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

FOREVER_S = 10 * 365 * 86400
"""Entry and attribute timeout: a package never changes, so the kernel need not ask twice."""


@dataclass(slots=True)
class Requests:
    """How many requests of the kernel this process is answering."""

    count: int = 0


UNDER_WAY = Requests()


def guarded(handler: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Let nothing but FUSEError out of a handler, with the errno of the table."""

    @functools.wraps(handler)
    async def guard(*args: P.args, **kwargs: P.kwargs) -> R:
        UNDER_WAY.count += 1
        try:
            return await handler(*args, **kwargs)
        except (pyfuse3.FUSEError, trio.Cancelled):
            raise
        except BaseException as exc:  # noqa: BLE001 - any bug must become EIO, not the end of the mount
            if isinstance(exc, BaseExceptionGroup) and (cancelled := exc.subgroup(trio.Cancelled)) is not None:
                raise cancelled from None  # the session is ending
            raise pyfuse3.FUSEError(errno_to_answer(handler.__name__, exc)) from None
        finally:
            UNDER_WAY.count -= 1

    guard.is_guarded = True  # type: ignore[attr-defined]  # read by the test that every handler is guarded
    return guard


def errno_to_answer(name: str, exc: BaseException) -> int:
    """Return the errno that a handler's error is answered with, once it has been logged."""
    error = worst(exc)
    number, level = errno_of(error)
    if isinstance(error, FusepkgError):
        log.log(level, "%s: %s", name, error)
    else:
        log.error("%s failed, which is a bug: the reader got an I/O error", name, exc_info=error)
    return number


def _refusal(name: str) -> Any:  # noqa: ANN401 - stands for handlers of any signature
    async def refuse(*_: object) -> NoReturn:
        raise pyfuse3.FUSEError(errno.EROFS)

    refuse.__name__ = name
    refuse.is_guarded = True  # type: ignore[attr-defined]  # raises only FUSEError
    return refuse


class ReadOnlyOperations(pyfuse3.Operations):
    """A read-only file system. Handles are inodes, so there is nothing to release."""

    enable_writeback_cache = False
    supports_dot_lookup = True

    create = _refusal("create")
    link = _refusal("link")
    mkdir = _refusal("mkdir")
    mknod = _refusal("mknod")
    removexattr = _refusal("removexattr")
    rename = _refusal("rename")
    rmdir = _refusal("rmdir")
    setattr = _refusal("setattr")
    setxattr = _refusal("setxattr")
    symlink = _refusal("symlink")
    unlink = _refusal("unlink")
    write = _refusal("write")

    def __init__(self, on_ready: Callable[[], None]) -> None:
        super().__init__()
        self._on_ready = on_ready

    def init(self) -> None:
        """FUSE INIT is done: the kernel will send requests from here on."""
        self._on_ready()

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Nothing is kept per lookup."""

    async def release(self, fh: FileHandleT) -> None:
        """Nothing is kept per open file."""

    async def releasedir(self, fh: FileHandleT) -> None:
        """Nothing is kept per open directory."""

    async def flush(self, fh: FileHandleT) -> None:
        """Nothing is ever written, and the kernel is told so once: it then closes files without asking."""
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """Nothing is ever written."""

    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """Nothing is ever written."""

    async def access(self, inode: InodeT, mode: int, ctx: RequestContext) -> bool:
        """Permission is the kernel's to check; it has refused writes before it asks."""
        return True


def read_only_handle(inode: int, flags: int, *, direct_io: bool = False) -> FileInfo:
    """The answer to ``open``: the handle is the inode. Raises FUSEError(EROFS) where writing is asked for."""
    if flags & 0b11:  # O_WRONLY or O_RDWR
        raise pyfuse3.FUSEError(errno.EROFS)
    return FileInfo(fh=FileHandleT(inode), direct_io=direct_io, keep_cache=not direct_io)
