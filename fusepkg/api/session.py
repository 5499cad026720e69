"""What all packages of a process share: settings, clients of buckets, the cache, what is remembered.

Owns: when these are opened, by whom they are shared, and when they are closed. Must not know: packages.

Everything is opened when it is first needed, once per process and set of flags, and closed when the interpreter ends. A
forked child opens its own and leaves what it inherited alone.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from fusepkg_cache.errors import CacheError

from fusepkg.errors import CacheFailure
from fusepkg.fetch.blocking import BlockingSource
from fusepkg.fetch.source import BlobSource
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.settings import Flags, Settings, decide
from fusepkg.state.hints import Remembered
from fusepkg.store.opening import StoreSet

if TYPE_CHECKING:
    from pathlib import Path

    import trio
    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.model.reference import BucketUrl

_lock = threading.Lock()
_sessions: dict[tuple[Flags, Settings], Session] = {}
_flags = Flags()


class Session:
    """What the packages of one process share. Safe for many threads."""

    def __init__(self, flags: Flags, settings: Settings) -> None:
        self.flags = flags
        self.settings = settings
        self._lock = threading.RLock()
        self._start_anew()

    def _start_anew(self) -> None:
        self._stores: StoreSet | None = None
        self._cache: Cache | None = None
        self._remembered: Remembered | None = None
        self._sources: dict[BucketUrl, BlockingSource] = {}

    @property
    def stores(self) -> StoreSet:
        """Clients of buckets."""
        with self._lock:
            if self._stores is None:
                self._stores = StoreSet(self.settings.s3, self.settings.data_dir)
            return self._stores

    @property
    def remembered(self) -> Remembered:
        """What may be forgotten."""
        with self._lock:
            if self._remembered is None:
                self._remembered = Remembered(self.settings.remembered_dir)
            return self._remembered

    def cache(self) -> Cache:
        """The machine's cache of blobs. Raises CacheFailure."""
        with self._lock:
            if self._cache is None:
                try:
                    self._cache = self.settings.cache.open()
                except CacheError as exc:
                    raise CacheFailure(exc.message, hint=exc.hint or "Name another with FUSEPKG_CACHE_DIR") from exc
            return self._cache

    def source(self, registry: BucketUrl) -> BlockingSource:
        """The bytes of packages of one registry, which has the chunk lists of their large blobs."""
        with self._lock:
            source = self._sources.get(registry)
            if source is None:
                source = self._sources[registry] = BlockingSource(lambda nursery: self._make_source(nursery, registry))
            return source

    def _make_source(self, nursery: trio.Nursery, registry: BucketUrl) -> BlobSource:
        store = self.stores.for_bucket(registry)

        def chunk_list(digest: Digest) -> list[bytes]:
            return get_chunk_list(store, digest)

        return BlobSource(self.settings.cache.open, self.stores.for_key, chunk_list, nursery)

    def close(self) -> None:
        """Close what is open; what is asked for later is opened anew."""
        with self._lock:
            sources, cache, remembered = list(self._sources.values()), self._cache, self._remembered
            self._start_anew()
        for source in sources:
            source.close()
        if cache is not None:
            cache.close()
        if remembered is not None:
            remembered.close()

    def forget(self) -> None:
        """In a forked child: leave to the parent what is the parent's. One thread has survived the fork."""
        self._lock = threading.RLock()
        self._start_anew()


def configure(
    *,
    cache_dir: Path | str | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    no_sign_request: bool = False,
    cache_size: str | None = None,
    cache_free: str | None = None,
    cache_lower: Path | str | None = None,
) -> None:
    """Say for this process what the command line says with flags; packages opened from now on follow it.

    What is left out comes from the environment, the configuration file, or a default.
    """
    global _flags
    _flags = Flags(
        cache_dir=_as_path(cache_dir),
        endpoint_url=endpoint_url,
        region=region,
        profile=profile,
        no_sign_request=no_sign_request,
        cache_size=cache_size,
        cache_free=cache_free,
        cache_lower=_as_path(cache_lower),
    )


def current_session(flags: Flags | None = None) -> Session:
    """The session for these flags, or for those of ``configure``. Raises UsageError for settings that are wrong."""
    flags = flags or _flags
    settings = decide(flags)
    with _lock:
        session = _sessions.get((flags, settings))
        if session is None:
            session = _sessions[flags, settings] = Session(flags, settings)
        return session


def close_sessions() -> None:
    """Close everything that packages of this process have opened. They stay usable: what they need is opened again."""
    with _lock:
        sessions = list(_sessions.values())
    for session in sessions:
        session.close()


def _as_path(path: Path | str | None) -> Path | None:
    from pathlib import Path

    return None if path is None else Path(path).expanduser()


def _after_fork_in_child() -> None:
    _lock.release()
    for session in _sessions.values():
        session.forget()


atexit.register(close_sessions)

# Held across a fork, so that the child does not inherit it locked by a thread it does not have.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork_in_child)
