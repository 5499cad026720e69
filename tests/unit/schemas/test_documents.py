"""Mistakes in a document are named by their line; nothing in it can make the reader run away."""

from __future__ import annotations

import pytest

from fusepkg.errors import SpecInvalid
from fusepkg.fit.spec import read_task
from fusepkg.schemas.documents import read_document
from fusepkg.schemas.json_schema import compile_schema
from fusepkg.schemas.patterns import compile_pattern


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nfiles:\n- names: a\n  colour: red\n", r"line 4: unknown key 'colour'\. Known here: names, match"),
        (
            "version: 1\nfiles:\n- names: a\n  pictures:\n    mode: x\n",
            r"line 5: unknown key 'mode'\. Known here: form",
        ),
        ("version: 1\nfiles:\n- names: a\n  count:\n    least: 1\n", r"line 5: unknown key 'least'\. Known here: min"),
        ("version: 1\nsplits: {part: {}}\n", r"line 2: unknown key 'part'\. Known here: parts, share, apart"),
        ("version: 1\nfiles: 7\n", r"line 2: files: Expected `array`, got `int`"),
        ("version: 1\nfiles:\n- count: 1\n", "line 3: needs either names"),
        ("version: 1\nfiles: [{names: a, count: {min: 2, max: 1}}]\n", "line 2: min is larger than max"),
        ("version: 1\nfiles: [{names: dir/}]\n", "line 2: 'dir/' matches no file"),
        ("version: 1\nfiles: [{matching: '(a'}]\n", r"line 2: the regular expression '\(a' is not understood: missing"),
        ("version: 1\nfiles: [{matching: '(?=a)'}]\n", "Look-around and back references are not taken"),
        ("version: 1\nfiles: [{names: a, json: {type: 7}}]\n", r"line 2: the schema is not a JSON Schema: \$.type: 7"),
        ("version: 1\nfiles: [{names: a, json: {pattern: '(?!x)'}}]\n", "line 2: the schema: the regular expression"),
        ("version: 2\n", "line 1: version 2 is not known"),
        ("files: []\n", "line 1: .*required field `version`"),
        ("version: 1\nversion: 1\n", "line 2: the key 'version' comes twice"),
        ("version: 1\nfiles: &a []\nothers: *a\n", r"line 2: an alias"),
        ("version: [\n", "line 2: not YAML"),
        ("- 1\n", "holds no specification"),
        ("", "holds no specification"),
        ("version: 1\nclasses: [{names: a, by: colour}]\n", "line 2: needs by: directory, by: meta.NAME, or table"),
        ("version: 1\nsplits: {parts: {a: a}, apart: [hash]}\n", "line 2: 'hash' is none of content, name"),
        ("version: 1\nsplits: {parts: {a: a}, share: {b: 1}}\n", "line 2: there is no part 'b'"),
        ("[" * 100 + "]" * 100, "nested too deep"),
    ],
)
def test_a_mistake_and_its_line(text: str, said: str) -> None:
    with pytest.raises(SpecInvalid, match=said):
        read_task(text.encode(), "task.yaml")


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(SpecInvalid, match="not UTF-8"):
        read_document(b"\xff\xfe\x00", "task.yaml")
    with pytest.raises(SpecInvalid, match=r"bytes\. At most"):
        read_document(b"#" * (1 << 21), "task.yaml")


def test_patterns_take_no_longer_than_the_text_is_long() -> None:
    """With Python's own engine each of these would run for years."""
    text = "a" * 5_000 + "!"
    assert compile_pattern("(a+)+b").fullmatch(text) is None
    mistakes = compile_schema(
        {
            "properties": {"x": {"pattern": "^(a|a)*$"}},
            "patternProperties": {"(a*)*b$": False},
            "additionalProperties": True,
        },
        "s",
    )
    assert [one.partition(":")[0] for one in mistakes({"x": text, text: 1})] == ["$.x"]


def test_a_schema_of_schemas() -> None:
    schema = {
        "$defs": {"pattern": {"type": "string"}},
        "properties": {"pattern": {"$ref": "#/$defs/pattern"}, "n": {"minimum": 1}},
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
    }
    mistakes = compile_schema(schema, "s")
    assert mistakes({"pattern": "(", "n": 1, "x-y": 2}) == []
    assert mistakes({"pattern": 1, "n": 0, "z": 2}) == [
        "$.pattern: 1 is not of type 'string'",
        "$.n: 0 is less than the minimum of 1",
        "$: unknown: 'z'",
    ]


@pytest.mark.parametrize("schema", [{"$ref": "http://example.com/s.json"}, {"$ref": "#/$defs/none"}])
def test_nothing_is_fetched(schema: object) -> None:
    with pytest.raises(SpecInvalid, match="refers to"):
        compile_schema(schema, "s")({})
