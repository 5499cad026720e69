"""The stores that the contract of ObjectStore is tested on, and what its tests share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fusepkg.store.protocol import ObjectStore

S3 = pytest.mark.s3
KINDS = [
    "memory",
    "memory-versioned",
    "faulty",
    "directory",
    pytest.param("s3", marks=S3),
    pytest.param("s3-versioned", marks=S3),
]


@dataclass(frozen=True)
class Subject:
    kind: str
    store: ObjectStore

    @property
    def versioned(self) -> bool:
        return self.kind.endswith("-versioned")


def keys(store: ObjectStore, prefix: str, limit: int | None = None) -> list[str]:
    return [info.key for info in store.list(prefix, limit=limit)]


def in_threads(count: int, work: object, *arguments: object) -> list[object]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, *arguments))  # type: ignore[arg-type, call-overload]


ODD_KEYS = [
    "a b",
    " a",
    "a ",
    "a+b",
    "a%20b",
    "a%2Fb",
    "%",
    "%zz",
    "a?b=c&d",
    "a#b",
    "a&<b>\"'",
    "a\\b",
    "a*b|c",
    "a:b@c",
    "...",
    "a/...",
    ".hidden/.file",
    "-rf",
    "~",
    "a~=",
    "a~d/b~f",
    "\u00e9",
    "e\u0301",
    "\u65e5\u672c/\U0001f600",
    "\ufeffbom",
    "a\ufffdb",
    "a\u2028b",
    "line\nbreak",
    "tab\tand\rreturn",
    "del\x7f",
    "\x85next-line",
    ".fusepkg-store/a",
    ".quilt/PACKAGE=a%2Fb/HASH_PREFIX=ab/x.jsonl",
    "long/" + "n" * 255,
    "long/" + "n" * 256,
    "long/" + "\u65e5" * 300,
    "deep/" * 100 + "a",
]
