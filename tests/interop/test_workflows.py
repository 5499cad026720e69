"""The rules that quilt3 keeps in a bucket hold for pushes of fusepkg too, with the same answers and top hashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.errors import PublishError, SpecInvalid, UsageError
from fusepkg.publish.workflows import CONFIG_KEY
from tests.command import Fusepkg
from tests.interop.places import Place
from tests.interop.quilt import run_quilt3

CONFIG = """\
version: "1"
default_workflow: strict
workflows:
  strict:
    name: Strict
    handle_pattern: ^ns/
    is_message_required: true
    metadata_schema: meta
    entries_schema: entries
  loose: {name: Loose}
schemas:
  meta: {url: META}
  entries: {url: ENTRIES}
"""
META = {"type": "object", "required": ["camera"], "properties": {"camera": {"pattern": "^c[0-9]+$"}}}
ENTRIES = {"type": "array", "items": {"properties": {"size": {"maximum": 10}, "logical_key": {"pattern": r"\.txt$"}}}}

PUSH = """
package = quilt3.Package()
package.set_dir("/", arguments["folder"], meta=arguments["meta"])
try:
    pushed = package.push(
        arguments["name"], arguments["registry"], message=arguments["message"], force=True,
        **({"workflow": arguments["workflow"]} if "workflow" in arguments else {})
    )
    answer({"top_hash": pushed.top_hash, "workflow": pushed._workflow})
except quilt3.util.QuiltException as error:
    answer({"error": str(error)})
"""


@pytest.fixture
def ruled(place: Place, tmp_path: Path) -> Place:
    """A registry with rules."""
    for name, schema in (("META", META), ("ENTRIES", ENTRIES)):
        place.store.overwrite(f"rules/{name}.json", json.dumps(schema).encode())
    text = CONFIG.replace("META", place.store.url("rules/META.json")).replace(
        "ENTRIES", place.store.url("rules/ENTRIES.json")
    )
    place.store.overwrite(CONFIG_KEY, text.encode())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a\n")
    return place


@pytest.mark.parametrize("place", [pytest.param("versioned", marks=pytest.mark.s3)], indirect=True)
def test_both_take_and_refuse_the_same(ruled: Place, tmp_path: Path, fusepkg: Fusepkg) -> None:
    folder = tmp_path / "folder"

    def theirs(**options: object) -> dict[str, object]:
        given = {"name": "ns/data", "meta": {"camera": "c1"}, "message": "why"} | options
        found: dict[str, object] = run_quilt3(PUSH, folder=folder, registry=ruled.registry, **given)
        return found

    def ours(*options: str, name: str = "ns/data", message: str = "why", meta: str = '{"camera": "c1"}') -> object:
        words = ["push", "--registry-format", "quilt3", "--json", *options, folder, ruled.reference(name)]
        done = fusepkg(*words, "--message", message, "--meta", meta, check=False)
        return json.loads(done.stdout)["top_hash"] if done.returncode == 0 else done.returncode

    taken = theirs()
    assert ours() == taken["top_hash"]
    assert Package(ruled.reference("ns/data")).index.header["workflow"] == taken["workflow"]
    assert ours("--workflow", "loose", meta="{}") == theirs(workflow="loose", meta={})["top_hash"]
    assert "Metadata failed validation" in str(theirs(meta={"camera": "left"})["error"])
    assert ours(meta='{"camera": "left"}') == 10
    assert ours(message="") == 10
    assert ours(name="other/data") == 10
    assert ours("--no-workflow") == 10  # the bucket asks for one
    assert ours("--workflow", "none") == 2
    (folder / "large.txt").write_text("more than ten bytes\n")
    assert "Package entries failed validation" in str(theirs()["error"])
    assert ours() == 10


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_rules_that_are_wrong_stop_every_push(ruled: Place, tmp_path: Path) -> None:
    builder = PackageBuilder(ruled.reference("ns/data"), quiet=True).add(f"{tmp_path}/folder/", "")
    builder.push_data()
    for rules, error, said in (
        (CONFIG.replace("name: Strict", "nom: Strict"), SpecInvalid, r"config.yml line 5: unknown key 'nom'"),
        (CONFIG.replace('"1"', '"2"'), SpecInvalid, "line 1: version 2 is not known"),
        (
            "version: '1'\ndefault_workflow: a\nworkflows: {a: {name: A, handle_pattern: '(?=n)'}}",
            SpecInvalid,
            "Look-ar",
        ),
        (CONFIG, SpecInvalid, "line 12: 'META' is no address"),
        (CONFIG.replace("META", "s3://"), SpecInvalid, "line 12"),
        ("version: '1'\nworkflows: {a: {name: A}}", PublishError, "asks for a workflow, and none was chosen. Choose"),
        (
            "version: '1'\ndefault_workflow: b\nworkflows: {a: {name: A}}",
            UsageError,
            "has no workflow 'b'. There are a",
        ),
        ("version: [", SpecInvalid, "line 1: not YAML"),
    ):
        ruled.store.overwrite(CONFIG_KEY, rules.encode())
        with pytest.raises(error, match=said):
            builder.push_manifest("v1")
    ruled.store.overwrite(CONFIG_KEY, b"version: '1'\nis_workflow_required: false\nworkflows: {a: {name: A}}")
    assert builder.push_manifest("v1").index.header["workflow"]["id"] is None


def test_without_rules_a_workflow_cannot_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    builder = PackageBuilder("local/data", quiet=True).set("a.txt", tmp_path / "a.txt")
    builder.push_data()
    with pytest.raises(UsageError, match="has no workflows"):
        builder.push_manifest("v1", workflow="a")
    assert "workflow" not in builder.push_manifest("v1").index.header
