"""The next version of a package in the making, for Python programs: add, change, build, push."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.api.builder_entry import BuilderEntry
from fusepkg.api.display import show_package
from fusepkg.api.package import Package
from fusepkg.daemon.records import mounts_below
from fusepkg.errors import CacheFailure, UsageError
from fusepkg.index.build import build_index
from fusepkg.index.opening import open_index
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.opened.inputs import opened_packages
from fusepkg.opened.version import LOCAL_MANIFEST, OpenVersion, open_version
from fusepkg.package.open import forget_index, index_manifest, index_root_for
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.folder import parse_symlinks
from fusepkg.publish.manifest import build_manifest, write_manifest
from fusepkg.publish.push_manifest import (
    ManifestBuilt,
    find_target,
    push_manifest,
    require_no_local_files,
    require_pushed,
)
from fusepkg.publish.targets import parse_format
from fusepkg.publish.upload.data import push_data
from fusepkg.publish.workspace import add_workspace, is_workspace
from fusepkg.query.view import without_places
from fusepkg.state.damage import damaged_objects
from fusepkg.vfs.tree import PackageTree
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import EllipsisType
    from typing import Self

    from fusepkg.app.context import Context
    from fusepkg.model.reference import Reference
    from fusepkg.publish.draft.items import Item
    from fusepkg.registry.layout import Layout
    from fusepkg.registry.manifests import ManifestPut
    from fusepkg.work.progress import ProgressCallback

PRE_MANIFEST = "pre-manifest"
"""Shown instead of a hash or an address before the manifest is built."""


class PackageBuilder:
    """A version in the making: ``PackageBuilder("bucket/dataset")``, or ``Package(...).as_package_builder()``.

    Calls that change it give it back, so that they can be chained; one that fails has changed nothing. With a tag in
    the name, that tag moves when the manifest is pushed. ``quiet`` keeps it from telling on standard output what it
    does.

    Raises: InvalidReference, UsageError.
    """

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        reference = parse_reference(name)
        if reference.top_hash is not None:
            raise UsageError(f"{name!r} names a version, which never changes", hint="Leave out the hash")
        says_tag = ":" in name.rpartition("/")[2]
        context = current_context()
        draft = Draft(reference, context.stores, tag=reference.tag if says_tag else None)
        self._start(context, draft, f"{reference.package}:{reference.tag}" if says_tag else reference.package, quiet)

    def _start(self, context: Context, draft: Draft, name: str, quiet: bool) -> None:
        self._context = context
        self._draft = draft
        self._name = name
        self._quiet = quiet
        self._pushed_tag: str | None = None

    @classmethod
    def from_package(cls, package: Package, *, quiet: bool = False) -> Self:
        """A builder that starts with all a package has."""
        builder = cls.__new__(cls)
        draft = Draft(replace(package.reference, top_hash=None), package.context.stores)
        draft.add_package(package.index)
        draft.user_meta = without_places(package.index.header.get("user_meta"))
        if package.tag is not None:
            draft.based_on[package.tag] = package.hash
        builder._start(package.context, draft, package.name, quiet)  # noqa: SLF001 - it is one of ours
        return builder

    # --- what it is ------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """``bucket/name``, with the tag it was made with."""
        return self._name

    @property
    def hash(self) -> str | None:
        """The top hash; None before the manifest is built, and again after each change."""
        return self._draft.top_hash

    @property
    def manifest(self) -> str:
        """Where the manifest lies: an address, ``local``, or ``pre-manifest``."""
        return self._draft.manifest_url or (LOCAL_MANIFEST if self.hash else PRE_MANIFEST)

    @property
    def message(self) -> str | None:
        """Why there is this version; part of it."""
        return self._draft.message

    @message.setter
    def message(self, message: str | None) -> None:
        self._draft.message = message

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata of the package; part of the version. A copy: assign to it to change it."""
        return dict(self._draft.user_meta or {})

    @meta.setter
    def meta(self, meta: dict[str, Any] | None) -> None:
        self._draft.user_meta = meta

    @property
    def draft(self) -> Draft:
        """What is behind it."""
        return self._draft

    def __repr__(self) -> str:
        fields = [("name", self.name), ("tophash", self.hash or PRE_MANIFEST), ("manifest", self.manifest)]
        return show_package(type(self).__name__, fields, [_line(item) for item in self._draft.items()])

    def __len__(self) -> int:
        return len(self._draft)

    def __iter__(self) -> Iterator[BuilderEntry]:
        """All entries, in the order of a sorted walk through the directories."""
        return map(self.get_entry, self.keys())

    def __contains__(self, logical_key: object) -> bool:
        return logical_key in self._draft.tree.slots

    def keys(self) -> list[str]:
        """All logical keys, in the order of a sorted walk through the directories."""
        return self._draft.keys_in_order()

    def get_entry(self, logical_key: str) -> BuilderEntry:
        """What one entry is so far. Raises EntryNotFound."""
        return BuilderEntry(self._draft.entry(logical_key))

    # --- changing it -----------------------------------------------------------------------------------------

    def add(
        self,
        source: str | os.PathLike[str] | Package,
        logical_key: str | None = None,
        *,
        inputs: Iterable[str | Package] = (),
        symlinks: str = "refuse",
        follow_symlinks: bool = False,
    ) -> Self:
        """Add a file, a folder, ``s3://bucket/key``, all below ``s3://bucket/prefix/``, or another package.

        Without ``logical_key`` names stay as they are; what has one of them already is replaced. ``"."``, the whole
        working directory, leaves out what ignore files say, and records the commit of git, the command line and the
        packages this process has opened or mounted there; ``inputs`` are further ones.

        ``symlinks`` says what becomes of a folder's symbolic links: "refuse" those that lead out of it,
        "follow-outside" to publish what these point to, "follow" for all links, or "keep" them all.
        ``follow_symlinks`` is "follow".

        Raises: FolderUnfit, KeyCollision, ObjectMissing, UsageError, RemoteError.
        """
        if isinstance(source, Package):
            self._draft.add_package(source.index, logical_key or "")
            return self
        text, links = os.fspath(source), parse_symlinks("follow" if follow_symlinks else symlinks)
        if not is_workspace(text):
            self._draft.add(text, logical_key, symlinks=links)
            return self
        mounts = mounts_below(Path.cwd())
        named = [_named(one) for one in inputs]
        add_workspace(
            self._draft,
            logical_key=logical_key or "",
            inputs=[*opened_packages(), *mounts.values(), *named],
            command=sys.orig_argv,
            own=mounts,
            symlinks=links,
        )
        return self

    def set(self, logical_key: str, source: str | os.PathLike[str], meta: dict[str, Any] | None = None) -> Self:
        """Make one logical key a file or an object. Raises as ``add``."""
        self._draft.set(logical_key, os.fspath(source), meta)
        return self

    def set_meta(self, logical_key: str, meta: dict[str, Any]) -> Self:
        """Replace the metadata of an entry, of a directory (``"train/"``), or with ``""`` of the package.

        Raises: EntryNotFound, UsageError.
        """
        if logical_key:
            self._draft.set_meta(logical_key, meta)
        else:
            self._draft.user_meta = meta
        return self

    def move_dir_contents(self, old: str, new: str, *, overwrite: bool = False) -> Self:
        """Give all that lies in one directory names in another. Raises EntryNotFound, KeyCollision, UsageError."""
        self._draft.move(old, new, overwrite=overwrite)
        return self

    def delete(self, logical_key: str) -> Self:
        """Take out an entry, or all that lies in a directory. Raises EntryNotFound."""
        self._draft.delete(logical_key)
        return self

    def filter(self, keep: Callable[[BuilderEntry], object]) -> Self:
        """Keep the entries that ``keep`` says yes to."""
        self._draft.filter(lambda entry: keep(BuilderEntry(entry)))
        return self

    def sample(self, amount: float, *, seed: int | None = None) -> Self:
        """Keep some entries, chosen at random: a number of them, or a part such as ``0.1``. Raises UsageError."""
        self._draft.sample(amount, seed=seed)
        return self

    # --- publishing it ---------------------------------------------------------------------------------------

    def build_manifest(self, *, progress: ProgressCallback = no_progress) -> None:
        """Hash what has no hash yet, and tell the top hash. Raises UsageError, FileChanged, RemoteError."""
        self._say(str(ManifestBuilt(self._build(progress))))

    def _build(self, progress: ProgressCallback) -> str:
        return build_manifest(self._draft, hints=self._context.hints, progress=progress)

    def push_data(
        self,
        prefix: str | None = None,
        *,
        local_files_only: bool = False,
        check: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> None:
        """Upload local files below a prefix of the bucket, and copy objects from elsewhere there.

        Without a prefix that is the package's name, and objects that lie in the package's bucket already stay where
        they are. What is there already is neither sent nor copied again, nothing is overwritten. ``local_files_only``
        leaves all objects where they lie. Objects of older versions that are missing are uploaded again; ``check``
        compares the bytes of all that would be reused.

        Raises: FileChanged, DigestMismatch, ObjectCollision, UsageError, RemoteError.
        """
        push_data(
            self._draft,
            prefix,
            local_files_only=local_files_only,
            check=check,
            suspects=damaged_objects(self._context.settings.data_dir),
            hints=self._context.hints,
            progress=progress,
            report=lambda pushed: self._say(str(pushed)),
        )

    def push_manifest(
        self,
        tag: str | None = None,
        *,
        allow_local_files: bool = False,
        registry_format: str = "fusepkg",
        workflow: str | EllipsisType | None = ...,
        block_hashes: bool | None = False,
        progress: ProgressCallback = no_progress,
    ) -> Package:
        """Publish the version, and make a tag name it: the one given, else the one in the builder's name, else none.

        With ``block_hashes`` large files of this machine can be read in parts of 64 KiB, with None those whose format
        is read in parts, as `fusepkg push` does; it makes another version.

        A tag that another publisher has moved since this builder first saw it is left alone: TagConflict names both
        versions, and this one is in the bucket all the same. Where the bucket has workflows as quilt3 knows them, the
        version is checked by the one named, None for none, by default the bucket's default.

        Raises: PublishError, LocalFilesRemain, TagConflict, UsageError, RemoteError.
        """
        push_manifest(
            self._draft,
            tag,
            allow_local_files=allow_local_files,
            registry_format=registry_format,
            workflow=workflow,
            block_hashes=block_hashes,
            suspects=damaged_objects(self._context.settings.data_dir),
            hints=self._context.hints,
            progress=progress,
            report=lambda event: self._say(f"{event}\n" if isinstance(event, ManifestBuilt) else str(event)),
            keep=lambda manifest, put: self._index(manifest, put, parse_format(registry_format)),
        )
        self._pushed_tag = self._draft.tag if tag is None else tag
        return self.as_package(allow_local_files=allow_local_files)

    def push_data_and_manifest(
        self,
        prefix: str | None = None,
        tag: str | None = None,
        *,
        registry_format: str = "fusepkg",
        workflow: str | EllipsisType | None = ...,
        block_hashes: bool | None = False,
        progress: ProgressCallback = no_progress,
    ) -> Package:
        """Both, one after the other. Raises what they raise."""
        find_target(self._draft, tag, registry_format)  # before a long upload
        self.push_data(prefix, progress=progress)
        self._say("")
        return self.push_manifest(
            tag, registry_format=registry_format, workflow=workflow, block_hashes=block_hashes, progress=progress
        )

    def as_package(self, *, allow_local_files: bool = False, allow_local_manifest: bool = False) -> Package:
        """This version as a package. Refused for what others could not open, unless you allow it.

        Raises: LocalFilesRemain, ManifestNotPushed, and what opening a package raises.
        """
        require_no_local_files(self._draft, allow=allow_local_files)
        require_pushed(self._draft, allow=allow_local_manifest)
        if self._draft.manifest_url is None or self._draft.has_local_files():
            return Package.of_version(self._open_local())
        reference = replace(self._draft.reference, top_hash=self._draft.top_hash)
        return Package.of_version(open_version(self._context, reference, tag=self._pushed_tag, is_input=False))

    def _index(self, manifest: Path, put: ManifestPut, where: Layout) -> None:
        """Build the index from the manifest that is at hand, which would else be fetched again."""
        reference, top_hash = self._draft.reference, self.hash
        if self._draft.has_local_files() or top_hash is None:
            return
        store = self._draft.stores.for_bucket(reference.bucket)
        indexes = self._context.settings.indexes_dir
        if put.is_news:
            forget_index(indexes, store, reference.name, top_hash)
        if not put.is_ours:
            return
        root = index_root_for(indexes, store, reference.name)
        with suppress(CacheFailure):  # whoever opens the package says so
            index_manifest(manifest, reference, top_hash, root, where)

    def _open_local(self) -> OpenVersion:
        """The version opened from a manifest that only this process has; gone when it ends."""
        top_hash = self._build(no_progress)
        directory = Path(tempfile.mkdtemp(prefix="fusepkg-version-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        manifest = directory / "manifest.jsonl"
        write_manifest(self._draft, manifest)
        build_index(manifest, directory, expected_top_hash=top_hash, allow_file_keys=True)
        index = open_index(directory, top_hash)
        assert index is not None, "an index just built can be opened"
        reference: Reference = replace(self._draft.reference, top_hash=top_hash)
        where = self._draft.manifest_url or LOCAL_MANIFEST
        return OpenVersion(self._context, reference, self._pushed_tag, index, PackageTree(index), where)

    def _say(self, text: str) -> None:
        if not self._quiet:
            sys.stdout.write(f"{text}\n")


def _line(item: Item) -> tuple[str, str]:
    return item.logical or "./", f"{item.source}..." if item.is_folder else item.source


def _named(package: str | Package) -> str:
    """A reference with the hash of the very version."""
    return str((Package(package) if isinstance(package, str) else package).reference)
