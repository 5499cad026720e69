"""A push ends with all that it names readable, or says no: whatever has become of the bucket's objects before."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fusepkg.errors import FusepkgError, ObjectMissing
from fusepkg.model.manifest import read_manifest
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import EntryRecord
from fusepkg.model.reference import parse_reference
from fusepkg.publish.push import push_folder
from fusepkg.registry.layout import ROOT, manifest_key
from fusepkg.registry.manifests import compute_top_hash
from fusepkg.store.memory import MemoryStore
from tests.unit.publish.stores import GivenStores

REFERENCE = parse_reference("bucket/ns/data")

files = st.dictionaries(
    st.sampled_from(["a", "b", "d/c", "d/e"]), st.sampled_from([b"one", b"two", b"", b"a longer text"]), min_size=1
)
damages = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["delete", "cut", "flip", "foreign"])), max_size=6)


def fill(folder: Path, wanted: dict[str, bytes]) -> None:
    for key, content in wanted.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(content)


def named(store: MemoryStore, top_hash: str) -> dict[str, EntryRecord]:
    data = store.get(manifest_key("ns/data", top_hash))
    records = read_manifest([data], allow_file_keys=False).records
    return {one.key.decode(): one for one in records if isinstance(one, EntryRecord)}


def read(store: MemoryStore, record: EntryRecord) -> bytes | None:
    place = parse_physical_key(record.url.decode())
    try:
        return store.get(place.key, version=place.version)
    except ObjectMissing:
        return None


def contents(store: MemoryStore, top_hash: str) -> dict[str, bytes | None]:
    return {key: read(store, record) for key, record in named(store, top_hash).items()}


def damage(store: MemoryStore, number: int, how: str) -> set[str]:
    """Do something to one object, data or manifest; gives the physical keys whose bytes look right and are not."""
    keys = [info.key for info in store.list("") if "/tags/" not in info.key]
    if not keys:
        return set()
    key = keys[number % len(keys)]
    info, data = store.head(key), store.get(key)
    if how == "delete" or (how == "flip" and not data):
        del store._objects[key]
        return set()
    changed = {
        "cut": data[:-1],
        "flip": bytes([data[0] ^ 1]) + data[1:] if data else b"",
        "foreign": b"somebody else's",
    }
    metadata = info.metadata if how == "flip" else {}
    versions = store._objects[key]
    store.overwrite(key, changed[how], metadata=metadata)
    if info.version is not None:  # the version itself goes bad
        new = versions.pop()
        versions[-1] = type(new)(new.data, type(info)(key, len(new.data), info.version, metadata))
    return {store.url(key, info.version)} if how == "flip" else set()


@settings(max_examples=40, deadline=None)
@given(old=files, new=files, damaged=damages, versioned=st.booleans(), check=st.booleans())
def test_after_a_push_all_it_names_can_be_read(
    old: dict[str, bytes],
    new: dict[str, bytes],
    damaged: list[tuple[int, str]],
    versioned: bool,
    check: bool,
) -> None:
    store = MemoryStore("bucket", versioned=versioned)
    with tempfile.TemporaryDirectory() as scratch:
        before, now = Path(scratch, "before"), Path(scratch, "now")
        fill(before, old)
        fill(now, new)
        first = push_folder(before, REFERENCE, GivenStores(store)).top_hash
        suspects: set[str] = set()
        for number, how in damaged:
            suspects |= damage(store, number, how)
        there = {info.key: store.get(info.key) for info in store.list("")}
        readable = {key for key, data in readable_of(store, first).items() if data == old[key]}
        try:
            pushed = push_folder(
                now,
                parse_reference("bucket/ns/data:next"),
                GivenStores(store),
                check=check,
                suspects=frozenset() if check else frozenset(suspects),
            )
        except FusepkgError:
            return  # it said no
        assert contents(store, pushed.top_hash) == new
        manifest = Path(scratch, "manifest")
        manifest.write_bytes(store.get(manifest_key("ns/data", pushed.top_hash)))
        assert compute_top_hash(manifest, allow_file_keys=False) == pushed.top_hash
        for key in readable:  # what could be read of the older version still can
            assert readable_of(store, first)[key] == old[key]
        for key, content in there.items():  # no other content has been overwritten
            assert store.get(key) == content or key.startswith(ROOT) or "~" in key


def readable_of(store: MemoryStore, top_hash: str) -> dict[str, bytes]:
    try:
        return {key: data for key, data in contents(store, top_hash).items() if data is not None}
    except FusepkgError:
        return {}
