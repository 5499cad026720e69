"""Compare a package with a specification: each thing that is wrong, with the line that asks for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fusepkg.errors import SpecInvalid
from fusepkg.fit.contents import check_json, check_pictures, check_tables
from fusepkg.fit.problems import Problem, Problems, outside
from fusepkg.fit.reading import Reading
from fusepkg.fit.select import choose, files_of, find, partner_of
from fusepkg.fit.spec import glob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fusepkg.api.entry import PackageEntry
    from fusepkg.api.package import Package
    from fusepkg.fit.spec import Classes, DataSpec, Files, Splits


@dataclass(frozen=True, slots=True)
class Report:
    """``problems`` are in the order of the specification. ``looked_into`` files gave ``read_bytes`` of their
    ``total_bytes``; ``fetched_bytes`` came from the bucket for it, because a hash needs whole pieces."""

    problems: tuple[Problem, ...]
    files: int
    total_bytes: int
    looked_into: int
    read_bytes: int
    fetched_bytes: int

    @property
    def fits(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(slots=True)
class _Check:
    package: Package
    task: DataSpec
    sample: int | None
    progress: Callable[[str, int, int], None]
    reading: Reading
    problems: Problems
    looked_into: set[str] = field(default_factory=set)

    def run(self) -> None:
        spec, entries = self.task.spec, files_of(self.package)
        if not entries:
            self.problems.add("", "the package holds no files", ())
        named: set[str] = set()
        for number, files in enumerate(spec.files):
            found = find(entries, files)
            named.update(entry.logical_key for entry in found)
            self._files(found, files, ("files", number))
        if not spec.others:
            for entry in entries:
                if entry.logical_key not in named:
                    self.problems.add(entry.logical_key, "is named by none of files", ("others",))
        if spec.meta is not None:
            self._schema("", self.package.meta, ("meta",))
        for number, classes in enumerate(spec.classes):
            self._classes(entries, classes, ("classes", number))
        if spec.splits is not None:
            self._splits(entries, spec.splits)

    # --- files -------------------------------------------------------------------------------------------------

    def _files(self, found: Sequence[PackageEntry], files: Files, at: tuple[str | int, ...]) -> None:
        shown = files.names or files.matching
        if said := outside(len(found), files.count, "file"):
            self.problems.add("", f"{shown}: {said}", (*at, "count"))
        elif not found and files.count is None:
            self.problems.add("", f"{shown}: no such file", at)
        for entry in found:
            if said := outside(entry.size, files.size, "byte"):
                self.problems.add(entry.logical_key, said, (*at, "size"))
            if files.meta is not None:
                self._schema(entry.logical_key, entry.meta, (*at, "meta"))
        for template in [files.pair] if isinstance(files.pair, str) else files.pair:
            self._pairs(found, files, template, (*at, "pair"))
        chosen = choose(found, self.sample)
        if files.pictures is not None or files.table is not None or files.json is not None:
            self.looked_into.update(entry.logical_key for entry in chosen)
        step = _Steps(self.progress, shown, len(chosen))
        if files.pictures is not None:
            check_pictures(step.of(chosen), files.pictures, self.reading, self.problems, (*at, "pictures"))
        if files.table is not None:
            check_tables(step.of(chosen), files.table, self.reading, self.problems, (*at, "table"))
        if files.json is not None:
            tell = self.task.schemas.get((*at, "json"), lambda _: [])
            check_json(step.of(chosen), tell, self.reading, self.problems, (*at, "json"))

    def _pairs(self, found: Iterable[PackageEntry], files: Files, template: str, at: tuple[str | int, ...]) -> None:
        for entry in found:
            try:
                partner = partner_of(entry.logical_key, files, template)
            except SpecInvalid as exc:
                raise self.task.document.wrong(at, exc.message, exc.hint) from exc
            if partner not in self.package:
                self.problems.add(entry.logical_key, f"has no {partner}", at)

    def _schema(self, where: str, value: object, at: tuple[str | int, ...]) -> None:
        for mistake in self.task.schemas[at](value):
            self.problems.add(where, f"metadata {mistake}", at)

    # --- classes -----------------------------------------------------------------------------------------------

    def _classes(self, entries: Sequence[PackageEntry], classes: Classes, at: tuple[str | int, ...]) -> None:
        counts = self._count_classes(entries, classes, at)
        if counts is None:
            return
        for name in classes.expected:
            if name not in counts:
                self.problems.add("", f"class {name!r}: no sample", (*at, "expected"))
        for name, count in sorted(counts.items()):
            if classes.expected and name not in classes.expected:
                self.problems.add("", f"class {name!r}: not among those expected", (*at, "expected"))
            if said := outside(count, classes.each, "sample"):
                self.problems.add("", f"class {name!r}: {said}", (*at, "each"))
        if classes.ratio is not None and counts and max(counts.values()) > classes.ratio * min(counts.values()):
            most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
            said = f"{counts[most]:,} of {most!r} and {counts[least]:,} of {least!r}: more than {classes.ratio:g} to 1"
            self.problems.add("", f"classes are not balanced: {said}", (*at, "ratio"))

    def _count_classes(
        self, entries: Sequence[PackageEntry], classes: Classes, at: tuple[str | int, ...]
    ) -> Counter[str] | None:
        if classes.table:
            from fusepkg.fit.tables import NoTable, read_column  # here, because it needs a library of its own

            if classes.table not in self.package:
                self.problems.add(classes.table, "is not there", (*at, "table"))
                return None
            self.looked_into.add(classes.table)
            try:
                return Counter(read_column(self.package[classes.table], classes.column, self.reading))
            except NoTable as exc:
                self.problems.add(classes.table, str(exc), (*at, "column"))
                return None
        counts: Counter[str] = Counter()
        pattern = glob(classes.names)
        for entry in entries:
            if not pattern.matches(entry.logical_key.split("/"), is_directory=False):
                continue
            name = _class_of(entry, classes.by)
            if name is None:
                self.problems.add(entry.logical_key, f"has no class: nothing at {classes.by}", (*at, "by"))
            else:
                counts[name] += 1
        return counts

    # --- splits ------------------------------------------------------------------------------------------------

    def _splits(self, entries: Sequence[PackageEntry], splits: Splits) -> None:
        patterns = {name: glob(pattern) for name, pattern in splits.parts.items()}
        parts: dict[str, list[PackageEntry]] = {name: [] for name in splits.parts}
        for entry in entries:
            names = entry.logical_key.split("/")
            of = [name for name, pattern in patterns.items() if pattern.matches(names, is_directory=False)]
            for name in of:
                parts[name].append(entry)
            if len(of) > 1:
                self.problems.add(entry.logical_key, f"is in {' and '.join(of)}", ("splits", "parts", of[-1]))
        whole = sum(map(len, parts.values()))
        for name, members in parts.items():
            if not members:
                self.problems.add("", f"{name} holds no file", ("splits", "parts", name))
            elif name in splits.share and (said := outside(len(members) / whole, splits.share[name], "")):
                self.problems.add("", f"{name} holds {said} of all files", ("splits", "share", name))
        for number, what in enumerate(splits.apart):
            self._leaks(parts, what, ("splits", "apart", number))

    def _leaks(self, parts: Mapping[str, list[PackageEntry]], what: str, at: tuple[str | int, ...]) -> None:
        """Find what is in two parts: the same bytes, a name, or something that metadata name."""
        first: dict[object, tuple[str, str]] = {}
        reported: dict[object, set[str]] = defaultdict(set)
        for part, members in parts.items():
            for entry in members:
                value = _identity(entry, what)
                if value is None:
                    continue
                other, key = first.setdefault(value, (part, entry.logical_key))
                if other != part and part not in reported[value]:
                    reported[value].add(part)
                    said = "the same bytes" if what == "content" else f"the same {what}"
                    self.problems.add(entry.logical_key, f"{part} leaks into {other}: {said} as {key}", at)


def check_package(
    package: Package,
    task: DataSpec,
    *,
    sample: int | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> Report:
    """Compare a package with a specification; of each pattern's files at most ``sample`` are looked into.

    Names, counts, sizes, pairs, metadata, classes by directory and splits are told by the manifest alone. Raises
    SpecInvalid, RemoteError, IntegrityError; a file that cannot be read is a problem of its own.
    """
    if sample is not None and sample < 1:
        raise SpecInvalid(f"a sample of {sample} files", hint="Write a number above 0")
    before = package.reader.fetched_bytes()
    check = _Check(package, task, sample, progress, Reading(package), Problems(task.document))
    check.run()
    return Report(
        tuple(check.problems.found),
        len(package),
        package.size,
        len(check.looked_into),
        check.reading.read_bytes,
        package.reader.fetched_bytes() - before,
    )


class _Steps:
    def __init__(self, progress: Callable[[str, int, int], None], what: str, total: int) -> None:
        self._progress, self._what, self._total = progress, what, total

    def of(self, entries: Iterable[PackageEntry]) -> Iterable[PackageEntry]:
        for done, entry in enumerate(entries):
            self._progress(self._what, done, self._total)
            yield entry


def _class_of(entry: PackageEntry, by: str) -> str | None:
    if by == "directory":
        return entry.logical_key.rpartition("/")[0].rpartition("/")[2] or None
    return _text_at(entry.meta, by)


def _identity(entry: PackageEntry, what: str) -> object:
    if what == "content":
        return entry.record.digest if entry.size else None
    name = entry.logical_key.rpartition("/")[2]
    if what == "name":
        return name
    return name.partition(".")[0] if what == "stem" else _text_at(entry.meta, what)


def _text_at(meta: dict[str, Any], path: str) -> str | None:
    value: Any = meta
    for name in path.removeprefix("meta.").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None or isinstance(value, dict | list) else str(value)
