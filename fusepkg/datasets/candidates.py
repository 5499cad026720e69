"""What is about to become a data row: files of this machine or objects of buckets, read once, with all their facts."""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg_cache.digest import chunk_size

from fusepkg.datasets.media import Media, read_picture, read_video
from fusepkg.datasets.rows import DataType, data_hash_of
from fusepkg.errors import DataUnfit
from fusepkg.fetch.unhashed import read_unhashed
from fusepkg.publish.hash.files import hashed_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fusepkg.api.builder import PackageBuilder
    from fusepkg.app.context import Context
    from fusepkg.datasets.dicom import Instance
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.hashes import Hashed


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as its store told of it, before a byte of it was read."""

    place: PhysicalKey
    size: int
    etag: str | None

    @property
    def source(self) -> str:
        """A text that names these very bytes, as far as the store can."""
        return f"{self.place}#{self.etag}" if self.etag and self.place.version is None else str(self.place)


@dataclass(frozen=True, slots=True)
class CandidateFile:
    """One file: ``path`` is where it lies on this machine, or it is the object ``found``."""

    title: str
    media: Media
    hashed: Hashed
    path: str = ""
    found: ListedObject | None = None
    instance: Instance | None = None

    @property
    def digest(self) -> str:
        """Its hash, as text."""
        return str(self.hashed.digest)

    def add_to(self, builder: PackageBuilder, logical_key: str, meta: dict[str, Any]) -> None:
        """Make it an entry of a version. Raises UsageError, FolderUnfit for a file that has gone."""
        found = self.found
        if found is None:
            builder.set(logical_key, self.path, meta)
        elif found.place.scheme == "file":
            builder.set(logical_key, str(found.place), meta)
        else:
            builder.draft.set_object(logical_key, found.place, found.size, self.hashed, etag=found.etag, meta=meta)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row to be added. ``where`` says where it was asked for, for messages; ``meta`` has further facts of the row."""

    kind: DataType
    title: str
    files: Sequence[CandidateFile]
    where: str
    client_metadata: Mapping[str, Any] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data_hash(self) -> str:
        """What the row will be called."""
        return data_hash_of(self.kind, self.title, (file.digest for file in self.files))


def local_file(path: Path, kind: DataType, title: str | None = None) -> CandidateFile:
    """Read a file of this machine. Raises DataUnfit."""
    shown = str(path)
    if not path.is_file():
        raise DataUnfit(f"{shown} is not a file", hint="Check the name")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            pieces = iter(lambda: file.read(chunk_size(size)), b"")
            chunks = tuple(hashlib.sha256(piece).digest() for piece in pieces)
    except OSError as exc:
        raise DataUnfit(f"{shown} cannot be read: {exc.strerror or exc}") from exc
    return _file(path, shown, kind, CandidateFile(title or path.name, _UNREAD, hashed_of(chunks), str(path.absolute())))


def find_object(context: Context, place: PhysicalKey) -> ListedObject:
    """Ask for an object: one HEAD. Raises ObjectMissing, AccessDenied, RemoteError."""
    store, key = context.stores.for_key(place)
    info = store.head(key, version=place.version)
    version = info.version if place.scheme == "s3" else None
    return ListedObject(replace(place, version=version or place.version), info.size, info.etag)


def stored_file(context: Context, found: ListedObject, kind: DataType, title: str) -> CandidateFile:
    """Read an object, once. Raises DataUnfit, FileChanged, RemoteError."""
    suffix = Path(found.place.key).suffix[:12]
    with tempfile.NamedTemporaryFile(prefix="fusepkg-data-", suffix=suffix) as copy:
        chunks = read_unhashed(found.place, found.size, context.stores.for_key, copy)
        copy.flush()
        file = CandidateFile(title, _UNREAD, hashed_of(chunks), found=found)
        return _file(Path(copy.name), found.place.readable, kind, file)


def split_by_resolution(files: Iterable[CandidateFile]) -> Iterator[tuple[tuple[int, int], list[CandidateFile]]]:
    """Group pictures by width and height, each group in the order given, groups by their first picture."""
    groups: defaultdict[tuple[int, int], list[CandidateFile]] = defaultdict(list)
    for file in files:
        groups[file.media.width, file.media.height].append(file)
    yield from groups.items()


def image_groups(
    files: Sequence[CandidateFile],
    title: str,
    where: str,
    *,
    split: bool = True,
    client_metadata: Mapping[str, Any] | None = None,
) -> list[Candidate]:
    """Return the groups that pictures make: one for each resolution, whose title says which if there are several."""
    groups = list(split_by_resolution(files))
    if not split or len(groups) == 1:
        return [Candidate(DataType.IMG_GROUP, title, files, where, client_metadata)]
    return [
        Candidate(DataType.IMG_GROUP, f"{title} {width}x{height}", group, where, client_metadata)
        for (width, height), group in groups
    ]


def dicom_series(
    files: Sequence[CandidateFile], title: str, where: str, *, client_metadata: Mapping[str, Any] | None = None
) -> list[Candidate]:
    """Return the series that DICOM files belong to, each in the order of its scanner's numbers, then as given."""
    series: defaultdict[str, list[CandidateFile]] = defaultdict(list)
    for file in files:
        assert file.instance is not None, "it was read as a DICOM file"
        series[file.instance.series].append(file)
    found = []
    for number, (uid, members) in enumerate(series.items(), 1):
        members.sort(key=lambda file: file.instance.number if file.instance else 0)
        first = members[0].instance
        assert first is not None
        meta = {"series_uid": uid, "study_uid": first.study, "modality": first.modality}
        name = title if len(series) == 1 else f"{title} {number}"
        found.append(Candidate(DataType.DICOM, name, members, where, client_metadata, meta))
    return found


def _file(path: Path, shown: str, kind: DataType, file: CandidateFile) -> CandidateFile:
    """Return the same with what it is; ``path`` is where its bytes are for now."""
    if kind is DataType.DICOM:
        from fusepkg.datasets.dicom import read_dicom  # here, because only some have such files

        instance = read_dicom(path, shown)
        return replace(file, media=instance.media, instance=instance)
    return replace(file, media=read_video(path, shown) if kind is DataType.VIDEO else read_picture(path, shown))


_UNREAD = Media("", 0, 0)
