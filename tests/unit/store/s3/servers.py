"""Servers that answer S3's requests as a test says, and stores and reads to ask them with."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fusepkg.errors import FusepkgError
from fusepkg.store.protocol import Answers, Wanted
from fusepkg.store.s3 import S3Settings, S3Store


class Server(BaseHTTPRequestHandler):
    """Answers as the test's ``answer`` does; keeps the requests."""

    protocol_version = "HTTP/1.1"

    def answer_request(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.server.asked.append((self.command, self.headers["Host"], self.path, dict(self.headers)))  # type: ignore[attr-defined]
        try:
            self.server.answer(self)  # type: ignore[attr-defined]
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = answer_request  # noqa: N815  (the names http.server looks for)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        if status == 200 and "Range" in self.headers:
            status, headers = 206, {**headers, "Content_Range": f"bytes 0-{len(body) - 1}/{len(body)}"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.send_header("ETag", '"x"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Listener:
    def __init__(self, host: str) -> None:
        self._server = ThreadingHTTPServer((host, 0), Server)
        self._server.daemon_threads = True
        self._server.asked = self.asked = []  # type: ignore[attr-defined]
        self.answers(lambda request: request.reply(200, b"hello"))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = self._server.server_port
        self.url = f"http://{host}:{self.port}"

    def answers(self, answer: object) -> None:
        self._server.answer = answer  # type: ignore[attr-defined]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class RawListener:
    """Answers each request's head with what ``answer`` writes to the connection; keeps the heads by connection.

    ``answer(connection, head)`` returns whether the connection stays open for another request.
    """

    def __init__(self, answer: Callable[[socket.socket, bytes], bool], tls: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.connections: list[list[bytes]] = []
        self.closed = threading.Semaphore(0)
        """Released when a client has closed a connection, or a server has."""
        self.answer = answer
        self._tls = tls
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                heads: list[bytes] = []
                self.connections.append(heads)
                threading.Thread(target=self._serve, args=(connection, heads), daemon=True).start()

    def _serve(self, connection: socket.socket, heads: list[bytes]) -> None:
        with suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            data = b""
            while block := connection.recv(65536):
                data += block
                if b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    heads.append(head)
                    if not self.answer(connection, head):
                        break
        connection.close()
        self.closed.release()


def a_store(bucket: str = "bucket", **settings: object) -> S3Store:
    return S3Store(bucket, S3Settings(**{"attempts": 1, **settings}))  # type: ignore[arg-type]


def read_async(store: S3Store, key: str, length: int = 100, timeout_s: float | None = None) -> bytes | FusepkgError:
    answers: Answers = []
    answered = threading.Event()
    reads = store.open_reads(lambda some: (answers.extend(some), answered.set())[0])
    reads.submit([Wanted(1, key, None, 0, length)], timeout_s=timeout_s)
    assert answered.wait(60)
    reads.close()
    return answers[0][1]
