"""The process's asyncio loop, in a thread of its own: how other threads wait for it, and how it waits for them."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


class _Loop(asyncio.SelectorEventLoop):
    """A loop that looks up names in daemon threads: a name server that does not answer never delays the exit."""

    async def getaddrinfo(self, host: Any, port: Any, **hints: int) -> Any:  # noqa: ANN401 - as asyncio has it
        """Look up the addresses of a host."""
        return await in_thread(socket.getaddrinfo, host, port, **hints)


_lock = threading.Lock()
_loop: _Loop | None = None
_inherited: list[_Loop | None] = []
"""Loops of processes this one was forked from: they share their epoll with the parent and must never be closed here."""


def running_loop() -> asyncio.AbstractEventLoop:
    """Return this process's loop, started at the first call."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = _Loop()
            threading.Thread(target=_loop.run_forever, name="fusepkg-http", daemon=True).start()
        return _loop


def _start_over() -> None:
    """Forget the parent's loop in a forked child: its thread is not there."""
    global _lock, _loop
    _lock = threading.Lock()
    _inherited.append(_loop)
    _loop = None


os.register_at_fork(after_in_child=_start_over)


def wait_for(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine on the loop and wait for its result. Ctrl-C is heard meanwhile, and cancels it."""
    future = asyncio.run_coroutine_threadsafe(coroutine, running_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def in_thread(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Result:
    """Run a function that blocks in a daemon thread of its own, and wait for its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(result: Callable[[], None]) -> None:
        if not future.done():
            result()

    def work() -> None:
        try:
            result = function(*arguments, **named)
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            error = exc
            loop.call_soon_threadsafe(settle, lambda: future.set_exception(error))
        else:
            loop.call_soon_threadsafe(settle, lambda: future.set_result(result))

    threading.Thread(target=work, name="fusepkg-http-call", daemon=True).start()
    return await future
