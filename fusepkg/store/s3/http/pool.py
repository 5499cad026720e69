"""Connections to one server that are kept for the next request, and how new ones are made."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

from fusepkg.store.s3.http.answer import ExchangeFailure, Room
from fusepkg.store.s3.http.connection import SCRATCH_BYTES, Connection

if TYPE_CHECKING:
    from fusepkg.store.s3.http.answer import Accept, Answer
    from fusepkg.store.s3.http.connection import Limits
    from fusepkg.store.s3.http.route import Route

IDLE_CONNECTIONS = 64
"""Idle connections kept; what is in flight is bounded by the caller."""

IDLE_S = 15.0
"""Idle connections are closed after this long, twice as long at most: before most servers do it."""

_FIRST_ADDRESS_S = 0.25
"""The next address of a host is tried beside one that takes longer than this (happy eyeballs)."""


class ConnectionPool:
    """The connections of one process to one server; for the loop's thread only."""

    def __init__(self, route: Route, limits: Limits) -> None:
        self.route = route
        self._limits = limits
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._idle: list[Connection] = []
        self._rested: set[Connection] = set()
        """Those that were idle at the last look already."""
        self._look: asyncio.TimerHandle | None = None

    async def ask(self, head: bytes, body: bytes, accept: Accept, *, fresh: bool = False) -> Answer:
        """Send a request over a kept connection, or a new one; ``fresh`` wants a new one.

        Raises Failure, and what ``accept`` raises. Cancelling it closes the connection.
        """
        connection = None if fresh else self._take()
        if connection is None:
            connection = await self._connect()
        try:
            answer = await connection.ask(head, body, accept)
        except BaseException:
            connection.close()
            raise
        if connection.is_open:
            self._keep(connection)
        return answer

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    # --- keeping ---------------------------------------------------------------------------------------------

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                self._rested.discard(connection)
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        if len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
            return
        self._idle.append(connection)
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(IDLE_S, self._close_rested)

    def _close_rested(self) -> None:
        for connection in self._rested:
            connection.close()
        self._idle = [connection for connection in self._idle if connection.is_open]
        self._rested = set(self._idle)
        self._look = asyncio.get_running_loop().call_later(IDLE_S, self._close_rested) if self._idle else None

    # --- connecting ------------------------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._limits.connect_s):
                return await self._reach()
        except TimeoutError as exc:
            raise ExchangeFailure("connect timeout") from exc
        except ssl.SSLError as exc:
            raise ExchangeFailure("tls", getattr(exc, "verify_message", "") or exc.reason or str(exc)) from exc
        except (OSError, UnicodeError) as exc:  # a name that cannot be encoded is a host that is not there
            words = (exc.strerror or str(exc)) if isinstance(exc, OSError) else "no such host"
            raise ExchangeFailure("proxy" if self.route.proxy else "connect", words) from exc

    async def _reach(self) -> Connection:
        """Connect, through the proxy if there is one. Raises OSError, SSLError, Failure."""
        route, proxy = self.route, self.route.proxy
        if proxy is None:
            return await self._dial(route.host, route.port, route.tls)
        connection = await self._dial(proxy.host, proxy.port, proxy.tls)
        if route.tls is None:
            return connection
        try:
            await self._tunnel(connection, proxy.authorization)
            loop = asyncio.get_running_loop()
            transport = await loop.start_tls(connection.transport, connection, route.tls, server_hostname=route.host)
            if transport is None:
                raise ExchangeFailure("broken", "the proxy closed the connection")
        except BaseException:
            connection.close()
            raise
        connection.secured(transport)
        return connection

    async def _dial(self, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            lambda: Connection(self._limits, self._scratch),
            host,
            port,
            ssl=tls,
            server_hostname=host if tls else None,
            happy_eyeballs_delay=_FIRST_ADDRESS_S,
        )
        if sock := transport.get_extra_info("socket"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    async def _tunnel(self, connection: Connection, authorization: str) -> None:
        route = self.route
        place = f"[{route.host}]:{route.port}" if ":" in route.host else f"{route.host}:{route.port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if authorization:
            lines.append(f"Proxy-Authorization: {authorization}")
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        answer = await connection.ask(head, b"", lambda _: Room(0, cut=True), tunnel=True)
        if answer.status >= 300:
            raise ExchangeFailure("proxy", f"the proxy answered {answer.status}")
