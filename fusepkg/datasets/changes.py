"""The next version of a dataset: rows added, changed, taken out. Everything here happens in a builder."""

from __future__ import annotations

import json
import re
import tempfile
import uuid
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fusepkg.api.builder import PackageBuilder
from fusepkg.datasets.info import ABOUT, HEADER, now
from fusepkg.datasets.rows import DIRECTORIES, DataType
from fusepkg.model.reference import DEFAULT_TAG
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from fusepkg.api.package import Package
    from fusepkg.datasets.candidates import Candidate, CandidateFile
    from fusepkg.datasets.info import DatasetInfo
    from fusepkg.datasets.media import Media
    from fusepkg.datasets.rows import DataRow
    from fusepkg.model.reference import Reference
    from fusepkg.work.progress import ProgressCallback

_NAME_BYTES = 180
"""Of a file's name in the package: a number and an extension may follow, and 255 are what file systems allow."""

_SEVERAL = (DataType.IMG_GROUP, DataType.DICOM)
"""Rows that are a directory."""


def make_dataset(reference: Reference, info: DatasetInfo, message: str | None) -> Package:
    """Publish a dataset without rows. Raises TagConflict where there is one of that name."""
    builder = PackageBuilder(reference.package, quiet=True)
    builder.draft.based_on[reference.tag] = None
    builder.meta = {HEADER: info.as_meta()}
    with tempfile.TemporaryDirectory(prefix="fusepkg-dataset-") as scratch:
        about = Path(scratch) / ABOUT
        about.write_text(json.dumps(info.as_meta(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        builder.set(ABOUT, about)
        return publish(builder, reference.tag, message)


def publish(
    builder: PackageBuilder,
    tag: str = DEFAULT_TAG,
    message: str | None = None,
    *,
    copy: bool = False,
    progress: ProgressCallback = no_progress,
) -> Package:
    """Publish a version; objects of other buckets stay where they are, or are copied. Raises TagConflict."""
    builder.message = message
    builder.push_data(None, local_files_only=not copy, progress=progress)
    return builder.push_manifest(tag, progress=progress)


# --- adding --------------------------------------------------------------------------------------------------


def add_rows(
    builder: PackageBuilder, there: Collection[str], candidates: Iterable[Candidate]
) -> tuple[list[str], list[str]]:
    """Add rows whose hash is not ``there``; return the hashes of those added, and of those that were there."""
    added: dict[str, None] = {}
    known: dict[str, None] = {}
    names = _Names(builder.keys())
    moment = _moment()
    for candidate in candidates:
        uid = candidate.data_hash
        if uid in there or uid in added:
            known[uid] = None
            continue
        if candidate.kind in _SEVERAL:
            _add_directory(builder, names, candidate, uid, moment)
        else:
            file = candidate.files[0]
            key = names.free(DIRECTORIES[candidate.kind], _file_name(candidate.title, file.title))
            file.add_to(builder, key, _row_meta(candidate, uid, moment) | _file_meta(file))
        added[uid] = None
    return list(added), list(known)


def _add_directory(builder: PackageBuilder, names: _Names, candidate: Candidate, uid: str, moment: str) -> None:
    directory = names.free(DIRECTORIES[candidate.kind], _safe(candidate.title))
    digits = max(4, len(str(len(candidate.files))))
    row = _row_meta(candidate, uid, moment)
    for number, file in enumerate(candidate.files):
        meta = {name: row[name] for name in ("data_hash", "data_title", "data_type")}
        meta |= {"image_hash": _image_hash(uid, number, file.digest), "title": file.title, "data_sequence": number}
        file.add_to(builder, f"{directory}/{number:0{digits}}-{_safe(file.title)}", meta | _file_meta(file))
    builder.set_meta(f"{directory}/", row | _common([file.media for file in candidate.files]))


def _row_meta(candidate: Candidate, uid: str, moment: str) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "data_hash": uid,
        "data_title": candidate.title,
        "data_type": str(candidate.kind),
        "created_at": moment,
        "last_edited_at": moment,
        **candidate.meta,
    }
    if candidate.client_metadata is not None:
        meta["client_metadata"] = dict(candidate.client_metadata)
    return meta


def _file_meta(file: CandidateFile) -> dict[str, Any]:
    return media_meta(file.media) | ({"source": file.found.source} if file.found is not None else {})


def media_meta(media: Media) -> dict[str, Any]:
    """Return the facts of a file as its entry's metadata hold them."""
    return {name: value for name, value in asdict(media).items() if value is not None}


def _common(media: list[Media]) -> dict[str, Any]:
    """Return what all files of a row have in common."""
    first = media_meta(media[0])
    return {name: value for name, value in first.items() if all(getattr(one, name) == value for one in media)}


def _image_hash(uid: str, number: int, digest: str) -> str:
    return str(uuid.uuid5(uuid.UUID(uid), f"{number}\n{digest}"))


# --- changing ------------------------------------------------------------------------------------------------


def update_row(
    builder: PackageBuilder, row: DataRow, *, title: str | None, client_metadata: Mapping[str, Any] | None
) -> None:
    """Give a row another title or other metadata of the user's; its files keep their names."""
    meta = {**row.meta, "last_edited_at": _moment()}
    if title is not None:
        meta["data_title"] = title
    if client_metadata is not None:
        meta["client_metadata"] = dict(client_metadata)
    builder.set_meta(row.logical_key, meta)
    for image in (row.images_data or ()) if title is not None else ():
        builder.set_meta(image.logical_key, {**builder.get_entry(image.logical_key).meta, "data_title": title})


def replace_video(builder: PackageBuilder, row: DataRow, path: Path, media: Media, more: Mapping[str, Any]) -> None:
    """Give a row another video; what it is called stays, but for the extension."""
    meta = {**row.meta, **media_meta(media), **more, "last_edited_at": _moment()}
    builder.delete(row.logical_key)
    old = PurePosixPath(row.logical_key)
    key = _Names(builder.keys()).free(str(old.parent), old.with_suffix(path.suffix).name)
    builder.set(key, path, meta)


def delete_rows(builder: PackageBuilder, rows: Iterable[DataRow]) -> None:
    """Take rows out. Their objects stay: older versions name them."""
    for row in rows:
        builder.delete(row.logical_key)


# --- names ---------------------------------------------------------------------------------------------------


class _Names:
    """The names that files and directories of a version have already."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._taken = {"/".join(key.split("/")[:2]).casefold() for key in keys}

    def free(self, directory: str, name: str) -> str:
        """Return a name that nothing has, not even in other case, and take it."""
        key = next(key for key in _variants(directory, name) if key.casefold() not in self._taken)
        self._taken.add(key.casefold())
        return key


def _variants(directory: str, name: str) -> Iterator[str]:
    yield f"{directory}/{name}"
    stem, dot, suffix = name.rpartition(".") if "." in name[1:] else (name, "", "")
    for number in range(2, 1_000_000_000):
        yield f"{directory}/{stem}-{number}{dot}{suffix}"


def _file_name(title: str, file: str) -> str:
    """Return the name of a row's file: its title, with the file's own extension."""
    suffix = PurePosixPath(_safe(file)).suffix
    safe = _safe(title)
    return safe if not suffix or safe.lower().endswith(suffix.lower()) else f"{safe}{suffix}"


def _safe(text: str) -> str:
    """Return a text that can be a file's name."""
    name = re.sub(r"[/\x00-\x1f\x7f\ud800-\udfff]", "_", text).strip() or "_"
    while len(name.encode()) > _NAME_BYTES:
        suffix = PurePosixPath(name).suffix[:20]
        name = name[: -len(suffix) - 1] + suffix if suffix else name[:-1]
    return f"_{name}" if name in (".", "..") or name.startswith(".fusepkg") else name


def _moment() -> str:
    return now().isoformat(timespec="milliseconds")
