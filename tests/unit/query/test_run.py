from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from fusepkg import Package
from fusepkg.errors import EntryNotFound, QueryInvalid, QueryStopped, RemoteError, UsageError
from fusepkg.query import entries as query_entries
from tests.unit.query.conftest import EVENTS, PICTURES


def test_one_row_an_entry(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch in (3, 1 << 16):  # entries cut at a time
        monkeypatch.setattr(query_entries, "_BATCH", batch)
        rows = list(package.query("SELECT * FROM entries").dicts())
        for row, entry in zip(rows, package, strict=True):
            assert row["logical_key"] == entry.logical_key
            directory, _, name = entry.logical_key.rpartition("/")
            assert (row["directory"], row["name"], row["size"]) == (directory, name, entry.size)
            assert (row["hash"], row["physical_key"]) == (entry.hash, entry.physical_key)
            assert json.loads(row["meta"]) == entry.meta == PICTURES.get(entry.logical_key, {})
            assert row["kind"] == entry.record.kind.name.lower()
    assert {row["kind"] for row in rows} == {"file", "symlink", "empty_directory"}


def test_a_query_does_not_load_pandas(package: Package) -> None:
    """PyArrow imports it for ``pa.array`` of NumPy's; that takes longer than the query."""
    program = (
        "import sys; from fusepkg import Package;"
        " rows = Package('local/pictures:v1').query('SELECT 1 FROM entries JOIN labels USING (logical_key)');"
        " print(len(list(rows)), 'pandas' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == f"{len(EVENTS)} False\n"


def test_one_thread_reads_a_package(package: Package) -> None:
    """Threads of DuckDB share an open file, and move and read it in two steps: of large tables came wrong bytes."""
    assert list(package.query("SELECT current_setting('threads') FROM labels LIMIT 1")) == [(1,)]


def test_metadata_is_json(package: Package) -> None:
    found = package.query("""
        SELECT logical_key, meta.label.event AS event FROM entries
        WHERE meta->'label'->>'event' = 'cat' AND CAST(meta->>'speed' AS INT) > 10 -- fast cats
    """)
    assert list(found) == [("test/3.jpg", '"cat"')]


@pytest.mark.parametrize(
    "table",
    ["labels", "LABELS.parquet", "labels.parquet", "'labels.parquet'", '"tables/labels.csv"', "'./tables/labels.csv'",
     "'tables/*.csv'", "\"tables/we[1]rd '.jsonl\""],
)  # fmt: skip
def test_tables_in_the_package_by_name(package: Package, table: str) -> None:
    if table == "LABELS.parquet":
        table = "labels AS other"
    elif table == "labels.parquet":
        table = '"labels.parquet"'
    found = package.query(f"SELECT logical_key, event FROM entries JOIN {table} USING (logical_key) ORDER BY 1")
    assert list(found) == sorted((one["logical_key"], one["event"]) for one in EVENTS)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("", "empty"),
        ("SELECT 1; SELECT 2", "SELECT, SELECT"),
        ("SELEC 1", "syntax"),
        ("INSERT INTO entries VALUES (1)", "INSERT"),
        ("WITH a AS (SELECT 1) INSERT INTO entries SELECT * FROM a", "INSERT"),
        ("CREATE TABLE a AS SELECT 1", "CREATE"),
        ("COPY entries TO '{}/x.csv'", "COPY"),
        ("ATTACH '{}/x.db'", "ATTACH"),
        ("INSTALL httpfs", "LOAD"),
        ("LOAD httpfs", "LOAD"),
        ("SET memory_limit = '9GB'", "SET"),
        ("PRAGMA version", "PRAGMA"),
        ("EXPLAIN ANALYZE SELECT 1", "EXPLAIN"),
        ("CALL pragma_version()", "CALL"),
        ("DELETE FROM entries", "DELETE"),
        ("SELECT * FROM read_csv('/etc/passwd')", "/etc/passwd"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT * FROM '/etc/../etc/services.csv'", "services"),
        ("SELECT * FROM read_text('{}/secret')", "secret"),
        ("SELECT * FROM read_text('fusepkg://local/pictures:v1/README')", "Cannot access"),
        ("SELECT * FROM glob('/etc/*')", "/etc/"),
        ("SELECT * FROM '../secret.csv'", "secret"),
        ("SELECT * FROM 'https://example.com/x.csv'", "example"),
        ("SELECT * FROM nothing", "nothing"),
        ("SELECT nope FROM entries", "nope"),
        ("SELECT * FROM '*.tsv'", "no file of the package fits"),
        ("SELECT * FROM twice", "twice.csv or twice.jsonl"),
        ("SELECT * FROM PICTURES", "PICTURES"),
        ("SELECT * FROM package", "package"),
    ],
)  # fmt: skip
def test_what_is_refused(package: Package, tmp_path: Path, sql: str, says: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret.csv").write_text("secret")
    before = sorted(tmp_path.rglob("*.csv")), sorted(tmp_path.rglob("*.db"))
    with pytest.raises((QueryInvalid, EntryNotFound)) as caught:
        package.query(sql.format(tmp_path))
    assert says in str(caught.value)
    assert (sorted(tmp_path.rglob("*.csv")), sorted(tmp_path.rglob("*.db"))) == before


def test_a_deadline_ends_a_query(package: Package) -> None:
    with pytest.raises(QueryStopped, match=r"stopped after 0\.2 s"):
        package.query("SELECT count(*) FROM range(100000000000) a, range(1000) b", timeout=0.2)
    with pytest.raises(UsageError, match="timeout"):
        package.query("SELECT 1", timeout=0)


def test_a_query_that_needs_too_much_memory(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusepkg.query import engine

    monkeypatch.setattr(engine, "MEMORY_BYTES", 64 << 20)
    with pytest.raises(QueryStopped, match="memory"):
        package.query("SELECT list(a ORDER BY hash(a)) FROM range(30000000) t(a)")


def test_results(package: Package, tmp_path: Path) -> None:
    result = package.query(
        "SELECT logical_key, meta, 1.5::DECIMAL(4,2) AS d, DATE '2026-01-02' AS t, [1, NULL] AS l, 'a'::BLOB AS b, "
        "NULL AS n "
        "FROM entries WHERE meta.speed IS NOT NULL ORDER BY 1"
    )
    assert (len(result), result.columns) == (3, ["logical_key", "meta", "d", "t", "l", "b", "n"])
    first = json.loads(next(result.json_lines()))
    assert first == {
        "logical_key": "test/3.jpg", "meta": PICTURES["test/3.jpg"], "d": "1.50", "t": "2026-01-02", "l": [1, None],
        "b": "61", "n": None,
    }  # fmt: skip
    result.write(tmp_path / "rows.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").equals(result.table)
    result.write(tmp_path / "rows.jsonl")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3
    assert list(result.to_pandas()["logical_key"]) == sorted(PICTURES)
    assert repr(package.query("SELECT 1 AS one, NULL AS none")) == "one\tnone\n1\t"
    assert repr(package.query("SELECT * FROM range(100)")).endswith("... and 80 more rows")
    with pytest.raises(UsageError, match="ends in none"):
        result.write(tmp_path / "rows.xlsx")


def test_the_command(package: Package, tmp_path: Path, fusepkg) -> None:
    ref, sql = "local/pictures:v1", "SELECT logical_key, meta FROM entries WHERE meta.speed = 20"
    assert json.loads(fusepkg("query", ref, sql, "--json").stdout) == [
        {"logical_key": "train/2.jpg", "meta": PICTURES["train/2.jpg"]}
    ]
    assert fusepkg("query", ref, "SELECT 1 AS a, 'x,y' AS b", "--csv").stdout == 'a,b\n1,"x,y"\n'
    assert fusepkg("query", ref, "SELECT event FROM labels ORDER BY 1").stdout == "event\ncat\ncat\ndog\n"
    fusepkg("query", ref, "FROM labels", "-o", tmp_path / "labels.csv")
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 4
    for arguments in (["DROP TABLE entries"], ["SELECT 1", "--json", "--csv"]):
        assert fusepkg("query", ref, *arguments, check=False).returncode == 2


def test_a_table_that_cannot_be_read_is_no_mistake_of_the_query(package: Package, published: Path) -> None:
    gone = published / "data" / "local" / "pictures" / "twice.csv"
    gone.rename(gone.with_suffix(".aside"))
    try:
        with pytest.raises(RemoteError, match=r"twice\.csv"):
            package.query("SELECT * FROM 'twice.csv'")
    finally:
        gone.with_suffix(".aside").rename(gone)
