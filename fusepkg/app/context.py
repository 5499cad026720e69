"""What one process opens from its settings, each once and when it is first needed.

Command line, Python API and daemon each build a ``Context`` and ask it for stores, hints, the cache, sources of bytes
and open packages. A forked child must not use what its parent has opened: it calls ``forget``.

What reads bytes is imported when bytes are first asked for: it is half of the start of a command that reads none.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fusepkg_cache.errors import CacheError

from fusepkg.errors import CacheFailure
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import DVC
from fusepkg.package.fallback import open_with_fallback
from fusepkg.package.replaced import ReplacedPlaces
from fusepkg.package.source import RegistryVersions
from fusepkg.registry.layout import block_list_key, pack_key
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.registry.packs import get_pack_table
from fusepkg.state.damage import note_damaged
from fusepkg.state.hints import Hints
from fusepkg.store.opening import StoreSet

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio
    from fusepkg_cache import Cache
    from fusepkg_cache.digest import Digest

    from fusepkg.app.settings import Settings
    from fusepkg.fetch.blocking_reader import BlockingReader
    from fusepkg.fetch.direct import DirectReader
    from fusepkg.fetch.packs import VersionPacks
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.index.opening import Index
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.reference import BucketUrl, Reference
    from fusepkg.package.open import OpenedPackage
    from fusepkg.package.source import VersionSource
    from fusepkg.registry.resolve import Resolved
    from fusepkg.state.file_identity import FileIdentity
    from fusepkg.store.protocol import ObjectStore


def _no_steps(_what: str, _done: int, _total: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class _Registry:
    """What is open of one registry: its store, its versions, and where objects lie that a push has replaced."""

    store: ObjectStore
    versions: VersionSource
    replaced: ReplacedPlaces


class Context:
    """Safe for many threads. ``on_cache_refused`` hears the reason each time a source cannot open the cache.

    ``cache_refusal`` is the last such reason, empty while the cache is in use.
    """

    def __init__(self, settings: Settings, on_cache_refused: Callable[[str], None] = lambda _reason: None) -> None:
        self.settings = settings
        self.cache_refusal = ""
        self.find_mounted: Callable[[FileIdentity], tuple[Digest, tuple[bytes, ...]] | None] = lambda _: None
        """Knows hashes of files in mounts; set before ``hints`` is first asked for."""
        self._on_cache_refused = on_cache_refused
        self.forget()

    def forget(self) -> None:
        """Leave what is open to the parent of this forked child; what is asked for next is opened here."""
        self._lock = threading.RLock()
        self._start_empty()

    def _start_empty(self) -> None:
        self._stores: StoreSet | None = None
        self._cache: Cache | None = None
        self._hints: Hints | None = None
        self._readers: dict[BucketUrl, BlockingReader] = {}
        self._registries: dict[BucketUrl, _Registry] = {}
        self._opened: dict[BucketUrl, list[weakref.ref[Index]]] = {}  # whose packs nobody has asked for yet
        self._versions: dict[BucketUrl, list[tuple[weakref.ref[Index], VersionPacks]]] = {}

    @property
    def stores(self) -> StoreSet:
        """The stores of registries and of the objects that manifests name."""
        with self._lock:
            if self._stores is None:
                self._stores = StoreSet(self.settings.s3, self.settings.data_dir)
            return self._stores

    def store(self, bucket: BucketUrl) -> ObjectStore:
        """The store of a registry. Nothing is asked of it yet."""
        return self.stores.for_bucket(bucket)

    @property
    def hints(self) -> Hints:
        """What this machine remembers to save work."""
        with self._lock:
            if self._hints is None:
                self._hints = Hints(self.settings.hints_dir, self.find_mounted)
            return self._hints

    def cache(self) -> Cache:
        """The machine's cache of blobs. Raises CacheFailure."""
        with self._lock:
            if self._cache is None:
                try:
                    self._cache = self.settings.cache.open()
                except CacheError as exc:
                    hint = exc.hint or "Name another directory with --cache-dir or FUSEPKG_CACHE_DIR"
                    raise CacheFailure(exc.message, hint=hint) from exc
            return self._cache

    def _registry(self, bucket: BucketUrl) -> _Registry:
        with self._lock:
            if bucket not in self._registries:
                self._registries[bucket] = self._open_registry(bucket)
            return self._registries[bucket]

    def _open_registry(self, bucket: BucketUrl) -> _Registry:
        store = self.store(bucket)
        versions: VersionSource
        if bucket.scheme == DVC:
            from fusepkg.dvc.package import DvcVersions  # here: few programs need it

            versions = DvcVersions(store, self.stores, self.settings.s3, self.settings.data_dir)
        else:
            versions = RegistryVersions(store, self.hints)
        return _Registry(store, versions, ReplacedPlaces(store))

    # --- bytes of entries ------------------------------------------------------------------------------------

    def entry_reader(self, registry: BucketUrl, nursery: trio.Nursery) -> EntryReader:
        """The bytes of packages of one registry, for a trio loop. Its owner closes it."""
        from fusepkg.fetch.reader import EntryReader

        store = self.store(registry)
        chunk_list = partial(get_chunk_list, store)
        return EntryReader(
            self._open_cache,
            self.stores.for_key,
            chunk_list,
            nursery,
            retry_timeout_s=self.settings.retry_timeout_s,
            note_damaged=self._note_damaged,
            elsewhere=self._registry(registry).replaced.find,
            versions=partial(self._packs_in, registry),
            copy_local=self.settings.copy_local,
            block_list=lambda root: parse_physical_key(store.url(block_list_key(root))),
        )

    def version_packs(self, registry: BucketUrl, index: Index) -> VersionPacks:
        """Return the packs of a version, which readers of its registry use from now on. Makes no request yet."""
        with self._lock:
            opened = [(known, packs) for known, packs in self._versions.get(registry, []) if known() is not None]
            self._versions[registry] = opened
            packs = next((packs for known, packs in opened if known() is index), None)
            if packs is None:
                packs = self._make_packs(registry, index)
                opened.append((weakref.ref(index), packs))
            return packs

    def _make_packs(self, registry: BucketUrl, index: Index) -> VersionPacks:
        from fusepkg.fetch.packs import VersionPacks

        store = self.store(registry)
        return VersionPacks(
            index, partial(get_pack_table, store), lambda pack: parse_physical_key(store.url(pack_key(pack)))
        )

    def _packs_in(self, registry: BucketUrl) -> list[VersionPacks]:
        """The packs of the versions of a registry that somebody has open."""
        with self._lock:
            for opened in self._opened.pop(registry, ()):
                index = opened()
                if index is not None:
                    self.version_packs(registry, index)
            return [packs for known, packs in self._versions.get(registry, []) if known() is not None]

    def blocking_reader(self, registry: BucketUrl) -> BlockingReader:
        """The same for any thread."""
        from fusepkg.fetch.blocking_reader import BlockingReader

        with self._lock:
            reader = self._readers.get(registry)
            if reader is None:
                make = partial(self.entry_reader, registry)
                reader = self._readers[registry] = BlockingReader(make)
            return reader

    def direct_reader(self, registry: BucketUrl) -> DirectReader:
        """The same for installing into a directory; without the cache where that cannot be used."""
        from fusepkg.fetch.direct import DirectReader

        try:
            cache = self.cache()
        except CacheFailure:
            cache = None
        return DirectReader(
            cache,
            self.stores.for_key,
            partial(get_chunk_list, self.store(registry)),
            self._note_damaged,
            self._registry(registry).replaced.find,
            partial(self._make_packs, registry),
        )

    def _note_damaged(self, place: PhysicalKey) -> None:
        note_damaged(self.settings.data_dir, [str(place)])

    def _open_cache(self) -> Cache:
        try:
            cache = self.settings.cache.open()
        except CacheError as exc:
            self.cache_refusal = str(exc)
            self._on_cache_refused(self.cache_refusal)
            raise
        self.cache_refusal = ""
        return cache

    # --- versions --------------------------------------------------------------------------------------------

    def resolve(self, reference: Reference) -> Resolved:
        """Return the version a reference names, also where the bucket cannot be reached but was before.

        Raises PackageError, RemoteError.
        """
        return self._registry(reference.bucket).versions.resolve(reference)

    def open_package(
        self,
        reference: Reference,
        progress: Callable[[str, int, int], None] = _no_steps,
        temporary: ExitStack | None = None,
    ) -> OpenedPackage:
        """Open one version of a package, also where the cache directory cannot keep its index.

        Such an index lies in a directory that is removed when ``temporary`` is closed (now, unless given); it stays
        readable for this process. Raises PackageError, RemoteError, IntegrityError, CacheFailure.
        """
        registry, indexes = self._registry(reference.bucket), self.settings.indexes_dir
        progress(f"{registry.versions.step} {reference}", 0, 0)
        resolved = registry.versions.resolve(reference)
        with ExitStack() as now:
            opened = open_with_fallback(registry.store, resolved, indexes, progress, temporary or now)
        registry.versions.use(opened.index)
        registry.replaced.note(opened)
        with self._lock:
            self._opened.setdefault(reference.bucket, []).append(weakref.ref(opened.index))
        return opened

    # --- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close what is open. What is asked for later is opened again."""
        with self._lock:
            readers, cache, hints = list(self._readers.values()), self._cache, self._hints
            self._start_empty()
        for reader in readers:
            reader.close()
        if cache is not None:
            cache.close()
        if hints is not None:
            hints.close()
