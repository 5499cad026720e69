"""The proxy: listens, keeps the log and the fault plan, gives each connection a thread."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakSet

from tests.proxy.exchange import Exchange
from tests.proxy.plan import Request, Rule, request_of
from tests.proxy.wire import Broken, Connection, Head, read_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from mypy_boto3_s3 import S3Client

    from tests.proxy.faults import Fault

WAIT_TIMEOUT_S = 60.0
"""How long ``wait_for`` waits for requests, and ``unreachable`` for threads, before the test fails."""


class Proxy:
    """A proxy before the S3 server at ``upstream``; ``s3`` is for answers S3 would not give by itself.

    Leaving its ``with`` block ends every thread and socket of it. All methods may be called from any thread.
    """

    def __init__(self, upstream: str, s3: S3Client) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._s3 = s3
        self._changed = threading.Condition()  # guards everything below
        self._requests: list[Request] = []
        self._rules: list[Rule] = []
        self._held = threading.Event()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._threads: set[threading.Thread] = set()
        self._open = False
        self._listener = _bound(("127.0.0.1", 0))
        self._address: tuple[str, int] = self._listener.getsockname()
        self.endpoint = f"http://127.0.0.1:{self._address[1]}"
        self.reachable()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unreachable()
        self._listener.close()

    # --- the fault plan ---

    def fail(
        self,
        fault: Fault,
        *,
        operation: str | None = None,
        key: str | None = None,
        when: Callable[[Request], bool] | None = None,
        times: int | None = 1,
        after: int = 0,
    ) -> Rule:
        """Spoil the next ``times`` (None: all) requests of this operation and key, past the first ``after``.

        Where several rules fit a request, the oldest one not used up is carried out.
        """
        rule = Rule(fault, operation, key, when, times, after)
        with self._changed:
            self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Forget the fault plan, and let what is stalled go on."""
        with self._changed:
            self._rules.clear()
        self.release()

    def release(self) -> None:
        """Let every request that has arrived go on, whether it stalls already or was about to."""
        with self._changed:
            self._held.set()
            self._held = threading.Event()
            if not self._open:
                self._held.set()

    def unreachable(self) -> None:
        """Refuse connections and break off the open ones; the port stays ours. On return nothing moves any more."""
        with self._changed:
            if not self._open:
                return
            self._open = False
            refusing = self._listener
            for connection in [refusing, *self._sockets]:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the threads that wait for it
            self._listener = _bound(self._address)  # bound but not listening: connections are refused
            threads = list(self._threads)
        self.release()
        for thread in threads:
            thread.join(WAIT_TIMEOUT_S)
            assert not thread.is_alive(), f"{thread.name} does not end"
        refusing.close()

    def reachable(self) -> None:
        """Take connections (again), on the same port."""
        with self._changed:
            if self._open:
                return
            self._open = True
            self._held = threading.Event()
            self._listener.listen(1024)
        self._spawn(self._accept, self._listener)

    # --- the log ---

    @property
    def requests(self) -> list[Request]:
        """Every request since the start or ``forget``, in order of arrival."""
        with self._changed:
            return list(self._requests)

    def operations(self, *, key: str | None = None) -> list[str]:
        """The S3 names of the requests, in order: ``assert proxy.operations() == ["GetObject"]``."""
        return [request.operation for request in self.requests if request.is_a(None, key)]

    def forget(self) -> None:
        """Empty the log."""
        with self._changed:
            self._requests.clear()

    def wait_for(
        self, count: int = 1, *, operation: str | None = None, key: str | None = None, answered: bool = False
    ) -> list[Request]:
        """Wait until so many requests of a kind have arrived or, with ``answered``, been answered; return them."""

        def found() -> list[Request]:
            return [one for one in self._requests if one.is_a(operation, key) and (one.answered or not answered)]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count, WAIT_TIMEOUT_S)
            requests = found()
        if len(requests) < count:
            raise AssertionError(f"{len(requests)} of {count} {operation or 'requests'} after {WAIT_TIMEOUT_S:.0f} s")
        return requests

    # --- serving ---

    def _spawn(self, target: Callable[[socket.socket], None], connection: socket.socket) -> None:
        def run() -> None:
            try:
                target(connection)
            finally:
                with self._changed:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name=f"proxy {self._address[1]}", daemon=True)
        with self._changed:
            self._threads.add(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # shut down: unreachable
            while True:
                client, _ = listener.accept()
                self._track(client)
                self._spawn(self._serve, client)

    def _track(self, connection: socket.socket) -> None:
        """Remember a socket, so that ``unreachable`` can break it off, also if that has just begun."""
        with self._changed:
            self._sockets.add(connection)
            if not self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket) -> None:
        server = Connection(self._upstream, self._track)
        try:
            with client, client.makefile("rb") as stream, suppress(OSError, Broken):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (head := read_head(stream)) is not None:
                    request, released = self._arrived(head)
                    going = Exchange(client, stream, server, self._s3, released, head, request).run()
                    with self._changed:
                        request.answered = True
                        self._changed.notify_all()
                    if not going:
                        break
        finally:
            server.close()

    def _arrived(self, head: Head) -> tuple[Request, threading.Event]:
        """Write a request down; it, and the event that ends its stalling, also where that has yet to begin."""
        request = request_of(head)
        with self._changed:
            rule = next((rule for rule in self._rules if rule.takes(request)), None)
            request.fault = rule.fault if rule else None
            self._requests.append(request)
            self._changed.notify_all()
            return request, self._held


def _bound(address: tuple[str, int]) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    return listener
