"""Programs that are measured as whole processes, or time one statement of themselves: ``python -m bench.programs``.

Each prints one JSON object: ``seconds`` of the statement, imports not counted, what it found, so that whoever runs it
can see that the work was done, and ``peak_mb``, the most memory its process had. (Asked of the kernel by the process
itself: what wait4 tells of a child counts the memory of the parent it was forked from.)
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def open_with_quilt3(name: str, registry: str) -> dict[str, Any]:
    """Browse a package, then count its entries."""
    import quilt3

    start = time.monotonic()
    package = quilt3.Package.browse(name, registry=registry)
    seconds = time.monotonic() - start
    return {"seconds": seconds, "entries": sum(1 for _ in package.walk())}


def open_with_fusepkg(reference: str) -> dict[str, Any]:
    """Open a package, then count its entries."""
    from fusepkg import Package

    start = time.monotonic()
    package = Package(reference)
    seconds = time.monotonic() - start
    return {"seconds": seconds, "entries": len(package)}


def push_with_quilt3(directory: str, name: str, registry: str) -> dict[str, Any]:
    """Publish a folder, as a second push of the same version has to be made too."""
    import quilt3

    _answer_checksums(quilt3)
    start = time.monotonic()
    package = quilt3.Package()
    package.set_dir(".", directory)
    package.push(name, registry=registry, force=True)
    return {"seconds": time.monotonic() - start, "entries": sum(1 for _ in package.walk())}


def install_with_quilt3(name: str, registry: str, directory: str) -> dict[str, Any]:
    """Download a package into a directory."""
    import quilt3

    _answer_checksums(quilt3)
    start = time.monotonic()
    package = quilt3.Package.install(name, registry=registry, dest=directory)
    del package
    files = sum(path.is_file() for path in Path(directory).rglob("*"))
    return {"seconds": time.monotonic() - start, "entries": files}


def open_cache(directory: str, digest: str) -> dict[str, Any]:
    """Open a cache and look for one blob; the memory is this process's, after the imports and after the look."""
    from fusepkg_cache import Algorithm, Cache, Digest

    from bench.memory import memory_of

    before = memory_of(["self"])
    start = time.monotonic()
    cache = Cache(Path(directory))
    found = cache.get(Digest(Algorithm.SHA2_256, bytes.fromhex(digest)))
    seconds = time.monotonic() - start
    after = memory_of(["self"])
    cache.close()
    grown = {kind: after[kind] - before[kind] for kind in after}
    return {"seconds": seconds, "found": len(found or b""), "grown_mb": grown}


def _answer_checksums(quilt3: Any) -> None:  # noqa: ANN401  # it has no types
    """Give quilt3 the SHA-256 that AWS answers to a PUT and Ceph leaves out: it hashes 10 KB, some 10 us."""

    def remember(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        data = body = params["Body"]
        if not isinstance(body, bytes):
            data = body.read()
            body.seek(0)
        context["sha256"] = base64.b64encode(hashlib.sha256(data).digest()).decode()

    def answer(parsed: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        parsed.setdefault("ChecksumSHA256", context["sha256"])

    def hook(build: Callable[..., Any], session: object, client_kwargs: dict[str, Any]) -> object:
        client = build(session, client_kwargs)
        client.meta.events.register("provide-client-params.s3.PutObject", remember)
        client.meta.events.register("after-call.s3.PutObject", answer)
        return client

    quilt3.hooks.set_build_s3_client_hook(hook)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


_PROGRAMS: dict[str, Callable[..., dict[str, Any]]] = {
    "open-quilt3": open_with_quilt3,
    "open-fusepkg": open_with_fusepkg,
    "push-quilt3": push_with_quilt3,
    "install-quilt3": install_with_quilt3,
    "open-cache": open_cache,
}

if __name__ == "__main__":
    done = _PROGRAMS[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps(done | {"peak_mb": _peak_mb()}) + "\n")
