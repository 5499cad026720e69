"""One request on its way to S3 and its answer on the way back, as it should be or as its fault says."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import ClientError

from tests.proxy.faults import Answer, Corrupt, Drip, Fault, Reset, ShiftRange, Stall, Truncate, WholeObject
from tests.proxy.wire import Broken, Connection, Head, body_pieces, read_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from tests.proxy.plan import Request

_NO_BODY = (204, 304)


@dataclass(slots=True)
class Exchange:
    """``released`` ends a stall; ``s3`` answers what the client did not ask."""

    client: socket.socket
    stream: BinaryIO
    server: Connection
    s3: S3Client
    released: threading.Event
    head: Head
    request: Request

    def run(self) -> bool:
        """Carry the request out; whether the client's connection can go on."""
        match self.request.fault:
            case None:
                return self._pass_on()
            case Answer() as answer:
                return self._refuse(answer)
            case Stall(after=None):
                self.released.wait()
                return self._pass_on()
            case Reset(after=None, reached=False):
                return self._reset()
            case WholeObject():
                return self._send(*self._ask(None))
            case ShiftRange() as shift:
                return self._send(*self._shifted(shift))
            case fault:
                answer_head, going = self._forward()
                body = b"".join(payload for _, payload in self._answer_body(answer_head))
                return self._spoil(fault, answer_head, body) and going

    # --- as it should be ---

    def _forward(self) -> tuple[Head, bool]:
        """Pass the request on; the answer's head, and whether the client's connection can go on."""
        self.server.begin()
        self.server.send(self.head.encode())
        if (self.head.get("expect") or "").lower() == "100-continue":
            answer = self._answer_head()
            if answer.status != 100:
                return answer, False  # refused before its body, which the client may send or not
            self.client.sendall(answer.encode())
        for framed, _ in body_pieces(self.stream, self.head):
            self.server.send(framed)
        answer = self._answer_head()
        while answer.status < 200:
            answer = self._answer_head()
        return answer, (answer.get("connection") or "").lower() != "close"

    def _answer_head(self) -> Head:
        answer = read_head(self.server.stream)
        if answer is None:
            raise Broken("the server closed without an answer")
        return answer

    def _answer_body(self, answer: Head) -> Iterator[tuple[bytes, bytes]]:
        if self.request.method == "HEAD" or answer.status in _NO_BODY:
            return iter(())
        return body_pieces(self.server.stream, answer, until_close=True)

    def _pass_on(self) -> bool:
        answer, going = self._forward()
        self._send_head(answer)
        for framed, payload in self._answer_body(answer):
            self.request.sent += len(payload)
            self.client.sendall(framed)
        if not going:
            self.server.close()
        return going

    def _send_head(self, answer: Head) -> None:
        self.request.status = answer.status
        self.client.sendall(answer.encode())

    def _send_body(self, body: bytes) -> None:
        self.request.sent += len(body)
        self.client.sendall(body)

    # --- as the fault says ---

    def _refuse(self, answer: Answer) -> bool:
        head = Head(f"HTTP/1.1 {answer.status} Spoiled", [("Content-Type", "application/xml"), *answer.headers])
        if self.request.headers.get("expect"):
            self._send(head.replace("Connection", "close"), answer.body)  # its body may come or not
            return False
        return self._send(head, answer.body)

    def _send(self, answer: Head, body: bytes) -> bool:
        """Answer with this in place of what S3 would, once the request's body is out of the way."""
        if not self.request.headers.get("expect"):
            for _ in body_pieces(self.stream, self.head):
                pass
        self._send_head(_measured(answer, len(body)))
        if self.request.method != "HEAD":
            self._send_body(body)
        return True

    def _reset(self) -> bool:
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST
        return False

    def _spoil(self, fault: Fault, answer: Head, body: bytes) -> bool:
        answer = _measured(answer, len(body)) if self.request.method != "HEAD" else answer
        match fault:
            case Corrupt(at):
                place = len(body) // 2 if at is None else at
                self._send_head(answer)
                self._send_body(bytes(b ^ 0xFF if n == place else b for n, b in enumerate(body)))
                return True
            case Truncate(keep, honest):
                kept = body[: len(body) // 2 if keep is None else keep]
                self._send_head(answer if honest else _measured(answer, len(kept)))
                self._send_body(kept)
                return not honest
            case Reset(after):
                if after is not None:
                    self._send_head(answer)
                    self._send_body(body[:after])
                return self._reset()
            case Stall(after):
                self._send_head(answer)
                self._send_body(body[:after])
                self.released.wait()
                self._send_body(body[after or 0 :])
                return True
            case Drip(piece_bytes, pause_s):
                self._send_head(answer)
                for at in range(0, len(body), piece_bytes):
                    self._send_body(body[at : at + piece_bytes])
                    self.released.wait(pause_s)
                return True
            case _:
                raise AssertionError(f"{fault} does not spoil bodies")

    def _shifted(self, shift: ShiftRange) -> tuple[Head, bytes]:
        assert self.request.range is not None
        first, last = self.request.range
        answer, body = self._ask(f"bytes={first + shift.by}-{'' if last is None else last + shift.by}")
        given = answer.get("content-range")
        if given is not None and not shift.confess:
            size = given.rpartition("/")[2]
            answer = answer.replace("Content-Range", f"bytes {first}-{first + len(body) - 1}/{size}")
        return answer, body

    def _ask(self, byte_range: str | None) -> tuple[Head, bytes]:
        """What S3 answers to the same GET with another range, or none."""
        wanted = {"Bucket": self.request.bucket, "Key": self.request.key}
        if "versionId" in self.request.query:
            wanted["VersionId"] = self.request.query["versionId"]
        if byte_range is not None:
            wanted["Range"] = byte_range
        try:
            answer = self.s3.get_object(**wanted)  # type: ignore[arg-type]
        except ClientError as exc:
            status, code = exc.response["ResponseMetadata"]["HTTPStatusCode"], exc.response["Error"]["Code"]
            return Head(f"HTTP/1.1 {status} Spoiled", []), Answer(status, code).body
        with answer["Body"] as stream:
            body = stream.read()
        metadata = answer["ResponseMetadata"]
        return Head(f"HTTP/1.1 {metadata['HTTPStatusCode']} Spoiled", list(metadata["HTTPHeaders"].items())), body


def _measured(answer: Head, length: int) -> Head:
    """A head for a body of that length, sent in one piece, on a connection that goes on as it did."""
    return answer.replace("transfer-encoding", None).replace("Content-Length", str(length))
