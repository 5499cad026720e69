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
    "seaweedfs",
    "seaweedfs-versioned",
]


_NAMES = "SeaweedFS keeps keys as paths of files: no empty or long parts, no backslash, no file beside a folder"
SEAWEEDFS_LIMITS = {
    "test_odd_keys_round_trip": _NAMES,
    "test_keys_that_are_no_paths_round_trip_or_are_refused": _NAMES,
    "test_url_is_the_physical_key": _NAMES,
    "test_a_name_may_be_file_and_directory": _NAMES,
    "test_directories_are_listed_once_each": _NAMES,
    "test_list_with_versions": _NAMES,
    "test_copy_between_odd_keys": _NAMES,
    "test_odd_keys_and_versions": _NAMES,
    "test_list_in_byte_order_with_prefix_and_limit": "SeaweedFS lists folder by folder, not in byte order of keys",
    "test_metadata_round_trip": "SeaweedFS drops metadata without a value",
    "test_missing_version": "SeaweedFS ignores versions where a bucket has none",
    "test_errors_are_those_of_get": "SeaweedFS ignores versions where a bucket has none",
}
"""Parts of the contract that this server cannot keep, whoever asks: by the names of their tests."""


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
