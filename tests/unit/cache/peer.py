"""A second process with a cache of its own, which does what it is told: ``python -m tests.unit.cache.peer``.

Each line on its standard input is a JSON list: the name of a method of ``Cache`` and its arguments, with digests and
bytes in hex, or "open" with a directory and perhaps a bound, or "die". It answers each with a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from fusepkg_cache import Algorithm, Cache, Digest

from tests.unit.cache.evicting import shrink

ROOT = Path(__file__).parents[3]


def encoded(value: Any) -> Any:
    if isinstance(value, Digest):
        return {"digest": [value.algorithm.value, value.hex]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return [encoded(each) for each in value] if isinstance(value, list) else value


def decoded(value: Any) -> Any:
    if isinstance(value, dict) and "digest" in value:
        algorithm, name = value["digest"]
        return Digest(Algorithm(algorithm), bytes.fromhex(name))
    if isinstance(value, dict) and "bytes" in value:
        return bytes.fromhex(value["bytes"])
    return [decoded(each) for each in value] if isinstance(value, list) else value


class Peer:
    """The other process. Use it as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.cache.peer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()

    def call(self, name: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([name, *map(encoded, arguments)]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if name == "die":
            assert self._process.wait(timeout=20) == -signal.SIGKILL
            return None
        return decoded(json.loads(answer))


def main() -> None:
    cache: Cache | None = None
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        result: Any = None
        if name == "open":
            if cache is not None:
                cache.close()
            cache = Cache(Path(arguments[0]), max_bytes=arguments[1] if len(arguments) > 1 else None)
        elif name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif name == "leave_unfinished":
            assert cache is not None
            cache._directory().unfinished.write([decoded(arguments[1])])
        elif name == "info":
            assert cache is not None
            result = cache.info().blobs
        elif name == "clear":
            assert cache is not None
            result = cache.clear().blobs
        elif name == "shrink_to":
            assert cache is not None
            result = shrink(cache, *arguments).blobs
        else:
            result = getattr(cache, name)(*map(decoded, arguments))
        print(json.dumps(encoded(result)), flush=True)


if __name__ == "__main__":
    main()
