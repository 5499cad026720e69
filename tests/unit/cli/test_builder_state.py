"""The file of a builder: read as it was written, refused with the line that is wrong, one writer at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.cli import builder_state
from fusepkg.cli.builder_state import (
    STATE_NAME,
    Add,
    BuilderHeader,
    BuilderState,
    Move,
    Remove,
    Set,
    SetMeta,
    ShownItem,
    create_state,
    find_directory,
    locked,
    read_state,
    require_directory,
    write_state,
)
from fusepkg.errors import BuilderUnfit

HASH = "82" * 32
FIRST = '{"builder": "bucket/dataset", "format": 1}\n'
WHOLE = BuilderState(
    BuilderHeader(
        "bucket/ns/dataset", 1, base=HASH, tag="v0", message="é\u2028\x85", built="3e" * 32, pushed="3e" * 32
    ),
    (
        Add("train/", "./train/"),
        Add("", package=f"bucket/new-data@{HASH}"),
        Set("train/1.jpg", "../replacement/1.jpg", meta={"n": 1.0, "null": None, "é": [True]}),
        SetMeta("", {"source": "web"}),
        Move("new/", "labelled/", overwrite=True),
        Remove("train/2\u2028.jpg"),
    ),
    (ShownItem("labelled/", "s3://bucket/data/labelled/"), ShownItem("", "./")),
)


def test_what_was_written_is_read(here: Path):
    create_state(here, WHOLE)
    assert read_state(here) == WHOLE
    changed = WHOLE.with_change(Remove("x"), [ShownItem("a/", "./a/")])
    write_state(here, changed)
    assert read_state(here) == changed
    assert os.listdir(here) == [STATE_NAME]


def test_it_is_a_change_a_line_in_words(here: Path):
    state = BuilderState(BuilderHeader("bucket/dataset", 1)).with_change(Add("a/", "./a/"), ())
    state = state.with_change(Set("a/b", "./b", meta={"k": 1}), [ShownItem("a/", "./a/"), ShownItem("a/b", "./b")])
    create_state(here, state)
    assert (here / STATE_NAME).read_text() == (
        '{"builder": "bucket/dataset", "format": 1}\n'
        '{"do": "add", "key": "a/", "from": "./a/"}\n'
        '{"do": "set", "key": "a/b", "from": "./b", "meta": {"k": 1}}\n'
        '{"do": "show", "key": "a/", "from": "./a/"}\n'
        '{"do": "show", "key": "a/b", "from": "./b"}\n'
    )
    assert stat.S_IMODE((here / STATE_NAME).stat().st_mode) & 0o600 == 0o600


def test_another_change_undoes_what_was_built_and_pushed():
    state = WHOLE.with_change(Remove("x"), [ShownItem("a/", "./a/")])
    assert (state.header.built, state.header.pushed) == (None, None)
    assert state.changes == (*WHOLE.changes, Remove("x"))
    assert state.header.base == HASH


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """An empty directory."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    texts,
    texts,
    st.dictionaries(
        texts, st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts, max_size=3
    ),
)
def test_any_names_and_metadata_survive(key: str, source: str, meta: dict[str, object]):
    state = BuilderState(BuilderHeader("bucket/dataset", 1, message=key), (Set(key, source, meta), Add(key, source)))
    lines = builder_state.text_of(state)
    assert lines.count("\n") == 3
    assert builder_state.state_from(lines, Path("x")) == state


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("\n", 1),
        ("[]\n", 1),
        ('{"builder": "bucket/dataset"}\n', 1),
        ('{"builder": "bucket/dataset", "format": 2}\n', 1),
        ('{"builder": "bucket", "format": 1}\n', 1),
        ('{"builder": "bucket/dataset", "format": 1, "base": "82"}\n', 1),
        (FIRST + '{"do": "add", "key": "a/", "from": "./a/"}\n{"do": "add", "key": "a/", "fr', 3),
        (FIRST + '\n{"do": "dance"}\n', 3),
        (FIRST + '{"do": "rm", "key": 1}\n', 2),
        (FIRST + '{"do": "rm", "key": "a", "more": 1}\n', 2),
        (FIRST + '{"do": "mv", "key": "a/"}\n', 2),
        (FIRST + '{"do": "set-meta", "key": "a", "meta": {"n": NaN}}\n', 2),
        (FIRST + "<<<<<<< HEAD\n", 2),
        (FIRST + "[" * 100_000, 2),
        (FIRST + "{}\n", 2),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(text: str, line: int, here: Path):
    (here / STATE_NAME).write_text(text)
    with pytest.raises(BuilderUnfit, match=f"^line {line} of {here}"):
        read_state(here)
    assert (here / STATE_NAME).read_text() == text


def test_a_file_that_is_no_text_is_refused(here: Path):
    (here / STATE_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(BuilderUnfit, match="cannot be read"):
        read_state(here)


def test_line_ends_of_another_system_are_taken(here: Path):
    (here / STATE_NAME).write_bytes(FIRST.replace("\n", "\r\n").encode() + b'{"do": "rm", "key": "a"}\r\n\r\n')
    assert read_state(here).changes == (Remove("a"),)


def test_a_second_builder_is_refused(here: Path):
    create_state(here, WHOLE)
    with pytest.raises(BuilderUnfit, match="holds a builder already"):
        create_state(here, BuilderState(BuilderHeader("bucket/other", 1)))
    assert read_state(here) == WHOLE
    assert os.listdir(here) == [STATE_NAME]


def test_it_is_found_from_below(here: Path):
    assert find_directory(here) is None
    create_state(here, WHOLE)
    below = here / "a" / "b"
    below.mkdir(parents=True)
    assert find_directory(below) == find_directory(here) == here


def test_one_command_at_a_time(here: Path):
    with locked(here):
        with pytest.raises(BuilderUnfit, match="another command"), locked(here):
            pass
        child = (
            "import sys; from pathlib import Path; from fusepkg.cli.builder_state import locked\n"
            "with locked(Path(sys.argv[1])): pass"
        )
        done = subprocess.run([sys.executable, "-c", child, here], capture_output=True, text=True, check=False)
        assert "another command" in done.stderr
    with locked(here):
        pass


def test_a_full_disk_leaves_the_old_file(here: Path, monkeypatch: pytest.MonkeyPatch):
    create_state(here, WHOLE)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BuilderUnfit, match="No space left"):
        write_state(here, WHOLE.with_change(Remove("x"), [ShownItem("a/", "./a/")]))
    assert read_state(here) == WHOLE
    assert os.listdir(here) == [STATE_NAME]


def test_a_file_that_others_can_write_is_not_obeyed(tmp_path: Path) -> None:
    create_state(tmp_path, BuilderState(BuilderHeader("bucket/name", 1)))
    (tmp_path / STATE_NAME).chmod(0o666)
    with pytest.raises(BuilderUnfit, match=f"{STATE_NAME} is not used: it can be written to by other users"):
        read_state(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")
def test_another_users_file_in_a_directory_above_is_not_obeyed(tmp_path: Path) -> None:
    create_state(tmp_path, BuilderState(BuilderHeader("bucket/name", 1)))
    os.chown(tmp_path / STATE_NAME, 12345, -1)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    directory = require_directory(tmp_path / "deep" / "er")
    with pytest.raises(BuilderUnfit, match="is not used: it belongs to user 12345"):
        read_state(directory)


def test_no_builder_begins_where_others_can_write(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(BuilderUnfit, match="which can be written to by other users"):
        create_state(tmp_path / "shared", BuilderState(BuilderHeader("bucket/name", 1)))
    assert list((tmp_path / "shared").iterdir()) == []
