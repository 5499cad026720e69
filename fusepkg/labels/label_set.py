"""The labels of one package of pictures: add, search, correct, delete. Each change is a version with a message."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import LabelsUnfit, PackageNotFound, SystemFailure, UsageError
from fusepkg.labels.documents import make_labels, named, read_documents, refuse_doubles
from fusepkg.labels.package import check_kinds, labels_of, open_labels, push_change
from fusepkg.labels.pictures import choose, find_new, open_pictures, publish_chosen, push_pictures
from fusepkg.labels.search import condition_of, search
from fusepkg.labels.segments import CHANGE
from fusepkg.labels.session import LABELS, read_session
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.publish.conflicts import repeat_conflicts
from fusepkg.query.engine import TIMEOUT_S
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fusepkg.api.package import Package
    from fusepkg.labels.documents import Label
    from fusepkg.labels.package import LabelPackage
    from fusepkg.labels.search import SearchResult
    from fusepkg.work.progress import ProgressCallback


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change came to. ``labels`` and ``pictures`` are the top hashes of the versions there are now.

    ``not_there`` says which labels were to be deleted and are none; ``pictures_left`` counts those without a label that
    stay because a package cannot be empty.
    """

    added: int = 0
    already_there: int = 0
    deleted: int = 0
    not_there: tuple[str, ...] = ()
    pictures_added: int = 0
    pictures_deleted: int = 0
    pictures_left: int = 0
    labels: str | None = None
    pictures: str | None = None


@dataclass(frozen=True, slots=True)
class _Deleting:
    fingerprints: list[str]
    file_names: list[str]
    """Of pictures that no label is of any more."""


class LabelSet:
    """The labels of the pictures in ``bucket/dataset:tag``, which lie in ``bucket/dataset-labels:tag``.

    ``fields`` make the fingerprint of a set that is made now. Raises InvalidReference, UsageError.
    """

    def __init__(self, pictures: str, *, fields: Sequence[str] | None = None) -> None:
        self._pictures = parse_reference(pictures)
        if self._pictures.top_hash is not None:
            raise UsageError(f"{pictures!r} names a version; labels are found by the tag", hint="Leave out the hash")
        self._context = current_context()
        self._reference = labels_of(self._pictures)
        self._fields = tuple(fields) if fields else None

    @property
    def reference(self) -> str:
        """The package that the labels lie in."""
        return str(self._reference)

    # --- changing them ---------------------------------------------------------------------------------------

    def add(
        self,
        directory: str | os.PathLike[str],
        *,
        labels: str | os.PathLike[str] | None = None,
        hardware: str | os.PathLike[str] | None = None,
        message: str | None = None,
        progress: ProgressCallback = no_progress,
    ) -> Changed:
        """Add the pictures and labels of a recorded session.

        ``directory`` holds the pictures, ``labels.json`` (or ``labels``), perhaps ``session_template.json`` and
        ``hardware_conf.json`` (or ``hardware``). A label whose fingerprint is there already is refused, and named; then
        nothing is changed. Raises LabelsUnfit, TagConflict, RemoteError.
        """
        place = Path(directory)

        def attempt() -> Changed:
            opened = self._open(must_exist=False)
            found = read_session(
                place,
                opened.fields,
                labels=Path(labels) if labels is not None else None,
                hardware=Path(hardware) if hardware is not None else None,
                bucket=str(self._pictures.bucket),
            )
            refuse_doubles(found)
            there = _among(opened, [label.fingerprint for label in found])
            if there:
                known = [f"{label.where} ({label.fingerprint})" for label in found if label.fingerprint in there]
                raise LabelsUnfit(
                    named(f"labels that {self.reference} has already", known), hint="Leave them out and add the rest"
                )
            check_kinds(opened, found)
            pictures = open_pictures(self._context, self._pictures)
            new = find_new(pictures, found, place)
            if new:
                pictures = push_pictures(self._pictures, pictures, new, (), message, progress)
            top_hash = pictures.hash if pictures else None
            package = push_change(opened, found, (), message, about={"pictures": top_hash})
            return Changed(len(found), pictures_added=len(new), labels=package.hash, pictures=top_hash)

        return repeat_conflicts(attempt)

    def apply(self, file: str | os.PathLike[str], *, message: str | None = None) -> Changed:
        """Take over a labeller's file: new labels are added, those with ``to_delete`` go.

        A label that is there already stays as it is. The picture of a deleted label goes with it if no other label is
        of it. Raises LabelsUnfit, TagConflict, RemoteError.
        """
        path = Path(file)

        def attempt() -> Changed:
            opened = self._open(must_exist=True)
            found = make_labels(read_documents(path), opened.fields)
            doomed = [label for label in found if label.to_delete]
            kept = {label.fingerprint: label for label in found if not label.to_delete}
            named_by = {label.stated or label.fingerprint: label for label in doomed}
            there = _among(opened, [*kept, *named_by, *(label.fingerprint for label in doomed)])
            gone = {(stated if stated in there else label.fingerprint): label for stated, label in named_by.items()}
            missing = [label.where for fingerprint, label in gone.items() if fingerprint not in there]
            to_delete = [fingerprint for fingerprint in gone if fingerprint in there]
            new = [label for label in kept.values() if label.fingerprint not in there]
            pictures = open_pictures(self._context, self._pictures)
            check_kinds(opened, new)
            find_new(pictures, new, None)  # a new label is of a picture that is there
            deleting = _deleting(opened, to_delete, new)
            already = len(kept) - len(new)
            return self._publish(opened, new, deleting, message, already=already, missing=missing)

        return repeat_conflicts(attempt)

    def delete(self, where: str | dict[str, Any], *, message: str | None = None) -> Changed:
        """Delete the labels that fit a condition, and the pictures that no label is of then.

        Raises QueryInvalid, TagConflict, RemoteError.
        """
        condition = condition_of(where)

        def attempt() -> Changed:
            opened = self._open(must_exist=True)
            with opened.engine() as connection:
                rows = connection.execute(f"SELECT label_fingerprint FROM labels WHERE {condition}").fetchall()
            return self._publish(opened, (), _deleting(opened, [row[0] for row in rows], ()), message)

        return repeat_conflicts(attempt)

    def _publish(
        self,
        opened: LabelPackage,
        new: Sequence[Label],
        deleting: _Deleting,
        message: str | None,
        *,
        already: int = 0,
        missing: Sequence[str] = (),
    ) -> Changed:
        """Labels go before their pictures: whoever is cut off in between leaves a picture without a label."""
        pictures = open_pictures(self._context, self._pictures)
        labels_hash, top_hash = opened.hash, pictures.hash if pictures else None
        if new or deleting.fingerprints:
            about = {"pictures": top_hash}
            labels_hash = push_change(opened, new, deleting.fingerprints, message, about=about).hash
        names = [name for name in deleting.file_names if pictures is not None and name in pictures]
        is_all = pictures is not None and len(names) == len(pictures)
        if names and not is_all:
            top_hash = repeat_conflicts(lambda: self._delete_pictures(names, message))
        return Changed(
            added=len(new),
            already_there=already,
            deleted=len(deleting.fingerprints),
            not_there=tuple(missing),
            pictures_deleted=0 if is_all else len(names),
            pictures_left=len(names) if is_all else 0,
            labels=labels_hash,
            pictures=top_hash,
        )

    def _delete_pictures(self, names: Sequence[str], message: str | None) -> str:
        pictures = open_pictures(self._context, self._pictures)
        there = [name for name in names if pictures is not None and name in pictures]
        return push_pictures(self._pictures, pictures, {}, there, message).hash

    # --- finding them ----------------------------------------------------------------------------------------

    def search(
        self, where: str | dict[str, Any] | None = None, *, layout: str = "", timeout_s: float = TIMEOUT_S
    ) -> SearchResult:
        """Return the labels that fit a condition, one a picture: SQL, or the JSON form of ``condition_of``.

        ``layout`` is an expression over a label's fields that names its picture in ``download`` and ``mount``.

        Raises QueryInvalid, QueryStopped, PackageNotFound, RemoteError.
        """
        return search(self._open(must_exist=True), where, timeout_s, layout)

    def download(
        self, found: SearchResult, directory: str | os.PathLike[str], *, progress: ProgressCallback = no_progress
    ) -> list[str]:
        """Bring the pictures of a search into a directory, those that are missing there; return those nobody has.

        Raises PackageNotFound, InstallError, RemoteError, IntegrityError.
        """
        place = Path(directory)
        missing = [name for name in found.file_names() if not (place / found.names.get(name, name)).is_file()]
        if not missing:
            return []
        chosen, lost = choose(self._open_pictures(), missing, found.names)
        chosen.download(place, progress=progress)
        return lost

    def mount(self, found: SearchResult, directory: str | os.PathLike[str]) -> Package:
        """Show the pictures of a search, and their ``labels.json``, in a directory until that is unmounted.

        What is mounted is a version of its own, without a tag: the same search of the same versions gives it again.
        Raises PackageNotFound, MountError, RemoteError.
        """
        with tempfile.TemporaryDirectory(prefix="fusepkg-labels-") as scratch:
            write_labels(found, labels := Path(scratch) / LABELS)
            chosen = publish_chosen(self._open_pictures(), found.file_names(), labels, found.names)
        chosen.install(directory, lazy=True)
        return chosen

    def _open_pictures(self) -> Package:
        pictures = open_pictures(self._context, self._pictures)
        if pictures is None:
            raise PackageNotFound(f"{self._pictures} is not there, of which these labels are")
        return pictures

    def _open(self, *, must_exist: bool) -> LabelPackage:
        return open_labels(self._context, self._reference, fields=self._fields, must_exist=must_exist)


def write_labels(found: SearchResult, path: str | os.PathLike[str]) -> None:
    """Write ``labels.json``: the labels of a search by ``img_id``. Raises SystemFailure."""
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        draft.write_text(json.dumps(found.documents, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        draft.replace(place)
    except OSError as exc:
        raise SystemFailure(f"{place} cannot be written: {exc.strerror or exc}") from exc


def _among(opened: LabelPackage, fingerprints: Iterable[str]) -> set[str]:
    """Return which fingerprints are those of labels that count."""
    if opened.version is None:
        return set()
    with opened.engine() as connection:
        rows = connection.execute(
            "SELECT label_fingerprint FROM labels SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS label_fingerprint) USING"
            " (label_fingerprint)",
            [list(fingerprints)],
        ).fetchall()
    return {row[0] for row in rows}


def _deleting(opened: LabelPackage, fingerprints: list[str], new: Sequence[Label]) -> _Deleting:
    """Return what is to go: labels, and the pictures whose last labels these are."""
    if not fingerprints:
        return _Deleting([], [])
    with opened.engine() as connection:
        columns = {name.lower() for name in connection.sql("SELECT * FROM stored").columns}
        if "file_name" not in columns:
            return _Deleting(fingerprints, [])
        rows = connection.execute(
            f"WITH doomed AS (SELECT unnest(?::VARCHAR[]) AS label_fingerprint)"
            f" SELECT file_name, max({CHANGE}) FROM stored SEMI JOIN doomed USING (label_fingerprint)"
            " WHERE file_name IS NOT NULL AND file_name NOT IN ("
            "  SELECT file_name FROM stored ANTI JOIN doomed USING (label_fingerprint) WHERE file_name IS NOT NULL"
            ") GROUP BY file_name ORDER BY file_name",
            [fingerprints],
        ).fetchall()
    kept = {label.file_name for label in new}
    return _Deleting(fingerprints, [name for name, _ in rows if name not in kept])
