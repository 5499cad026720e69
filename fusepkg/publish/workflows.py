"""quilt3's workflows: what the owner of a bucket wants of each version, checked before a push does any work.

The rules, their order and what is recorded are quilt3's. Regular expressions are RE2's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.errors import ManifestInvalid, ObjectMissing, PublishError, RemoteError, SpecInvalid, UsageError
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.publish.upload.many import is_new_directory
from fusepkg.registry.layout import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import EllipsisType

    from fusepkg.publish.draft.draft import Draft
    from fusepkg.store.protocol import ObjectStore

CONFIG_KEY = f"{ROOT}workflows/config.yml"
"""Where quilt3 keeps the rules of a bucket."""

_NEWEST = (1, 1, 0)
"""The newest version of the rules that is known."""

_RULES_BYTES = 4 << 20
"""The largest file of rules, or schema, that is read."""

_DRAFT_7 = "http://json-schema.org/draft-07/schema#"


class _Version(msgspec.Struct, forbid_unknown_fields=True):
    base: str
    catalog: str = ""


class _Workflow(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str = ""
    handle_pattern: str | None = None
    metadata_schema: str | None = None
    entries_schema: str | None = None
    is_message_required: bool = False
    catalog: Any = None


class _Schema(msgspec.Struct):
    url: str


class _Config(msgspec.Struct, forbid_unknown_fields=True):
    version: str | _Version
    workflows: dict[str, _Workflow]
    is_workflow_required: bool = True
    default_workflow: str | None = None
    schemas: dict[str, _Schema] = {}
    successors: Any = None
    catalog: Any = None


def apply_workflow(draft: Draft, chosen: str | EllipsisType | None) -> None:
    """Check a version being made by a workflow of its bucket, and record in it which one that was.

    ``chosen`` is the workflow's name, None for none, ``...`` for the default. Does nothing where the bucket has no
    rules. Raises PublishError for what they refuse, UsageError for a workflow that is not there, SpecInvalid for rules
    that are wrong, MissingExtra, and what stores raise.
    """
    store = draft.stores.for_bucket(draft.reference.bucket)
    found = None if is_new_directory(store) else _get(store, CONFIG_KEY)
    if found is None:
        if isinstance(chosen, str):
            raise UsageError(f"{chosen!r}: {draft.reference.bucket} has no workflows", hint=f"They lie in {CONFIG_KEY}")
        draft.workflow = None
        return
    draft.workflow = _Rules(draft, *found).check(chosen)


def _get(store: ObjectStore, key: str) -> tuple[bytes, str] | None:
    """Return an object and its address with its version; None where there is none."""
    try:
        info = store.head(key)
        return store.get(key, version=info.version, at_most=_RULES_BYTES), store.url(key, info.version)
    except ObjectMissing:
        return None


class _Rules:
    def __init__(self, draft: Draft, data: bytes, url: str) -> None:
        from fusepkg.schemas.documents import read_document  # here, because only buckets with rules need its libraries

        self._draft = draft
        self._url = url
        self._document = read_document(data, parse_physical_key(url).readable)
        self._config = self._document.convert(_Config)
        self._schemas: dict[str, str] = {}
        version = self._config.version
        text = version if isinstance(version, str) else version.base
        try:
            numbers = tuple(map(int, text.split(".")))
        except ValueError as exc:
            raise self._document.wrong(("version",), f"{text!r} is no version") from exc
        if numbers > _NEWEST:
            raise self._document.wrong(("version",), f"version {text} is not known", "Update fusepkg")

    def check(self, chosen: str | EllipsisType | None) -> dict[str, Any]:
        """Return what the version records. Raises PublishError."""
        draft = self._draft
        workflow, name = self._choose(chosen)
        pattern = workflow.handle_pattern if workflow else None
        metadata = self._compiled(workflow.metadata_schema if workflow else None)
        entries = self._compiled(workflow.entries_schema if workflow else None)
        if workflow and workflow.is_message_required and not draft.message:
            raise self._refused(name, "asks for a message, and there is none", "Say why, with --message (message=)")
        if pattern and not self._matches(pattern, draft.reference.name):
            raise self._refused(name, f"asks for a name that matches {pattern!r}, not {draft.reference.name!r}")
        if mistakes := metadata(draft.header().get("user_meta") or {}):
            raise self._refused(name, f"refuses the metadata of the package: {'; '.join(mistakes)}")
        if mistakes := entries(self._entries() if workflow and workflow.entries_schema else None):
            raise self._refused(name, f"refuses the entries of the package: {'; '.join(mistakes)}")
        record: dict[str, Any] = {"id": name, "config": self._url}
        if self._schemas:
            record["schemas"] = self._schemas
        return record

    def _choose(self, chosen: str | EllipsisType | None) -> tuple[_Workflow | None, str | None]:
        config = self._config
        name = config.default_workflow if chosen is ... else chosen
        if name is None:
            if config.is_workflow_required:
                raise PublishError(
                    f"{self._document.name} asks for a workflow, and none was chosen",
                    hint=f"Choose one with --workflow (workflow=): {', '.join(config.workflows)}",
                )
            return None, None
        if name not in config.workflows:
            raise UsageError(
                f"{self._document.name} has no workflow {name!r}", hint=f"There are {', '.join(config.workflows)}"
            )
        return config.workflows[name], name

    def _matches(self, pattern: str, text: str) -> bool:
        from fusepkg.schemas.patterns import compile_pattern  # here, as above

        try:
            return compile_pattern(pattern).search(text) is not None
        except SpecInvalid as exc:
            raise SpecInvalid(f"{self._document.name}: {exc.message}", hint=exc.hint) from exc

    def _compiled(self, schema: str | None) -> Callable[[Any], list[str]]:
        """Return what finds mistakes by the schema of that name; remembers which one it was."""
        if schema is None:
            return lambda _value: []
        if schema not in self._config.schemas:
            raise self._document.wrong(("schemas",), f"there is no schema {schema!r}")
        from fusepkg.schemas.json_schema import compile_draft_7  # here, as above

        data, self._schemas[schema] = self._load(schema, self._config.schemas[schema].url)
        try:
            value = json.loads(data, object_hook=_refuse_references)
        except (ValueError, RecursionError) as exc:
            raise SpecInvalid(f"the schema {schema!r} of {self._document.name} is not JSON: {exc}") from exc
        if isinstance(value, dict) and value.get("$schema", _DRAFT_7) != _DRAFT_7:
            raise SpecInvalid(f"the schema {schema!r} is of {value['$schema']}", hint=f"Known is {_DRAFT_7}")
        return compile_draft_7(value, f"the schema {schema!r}")

    def _load(self, schema: str, url: str) -> tuple[bytes, str]:
        at = ("schemas", schema, "url")
        try:
            place = parse_physical_key(url)
        except ManifestInvalid as exc:
            raise self._document.wrong(at, f"{url!r} is no address") from exc
        if place.scheme == "file" and not self._url.startswith("file:"):
            raise self._document.wrong(at, f"{url} is a file of some machine, and these are rules for all")
        store, key = self._draft.stores.for_key(place)
        try:
            if place.version is not None:
                return store.get(key, version=place.version, at_most=_RULES_BYTES), url
            found = _get(store, key)
        except RemoteError as exc:
            raise self._document.wrong(at, f"{url} cannot be read: {exc.message}", exc.hint) from exc
        if found is None:
            raise self._document.wrong(at, f"{url} is not there")
        return found

    def _entries(self) -> list[dict[str, Any]]:
        draft = self._draft
        entries = (draft.entry(key) for key in draft.keys_in_order())
        return [{"logical_key": one.logical_key, "size": one.size, "meta": one.user_meta} for one in entries]

    def _refused(self, workflow: str | None, what: str, hint: str = "") -> PublishError:
        return PublishError(f"the workflow {workflow!r} of {self._draft.reference.bucket} {what}", hint=hint)


def _refuse_references(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in value:
        raise ValueError("$ref is not supported there, as in quilt3")
    return value
