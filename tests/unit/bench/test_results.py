from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.results import GroupFacts, Results, Sample, join, read_results, write_results

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    results = Results(started="now", machine={"kernel": "6"}, versions={}, options={}, skipped={"s3": "no server"})
    results.add_row("r", "a row", "s")
    results.add_row("r", "a row", "s")
    results.samples.append(Sample(row="r", subject="local", round=0, value=1.5, passes=[1.0, 2.0], load=0.1))
    write_results(results, tmp_path / "new" / "one.json")
    assert read_results(tmp_path / "new" / "one.json") == results
    assert len(results.rows) == 1


def test_results_of_another_format_are_refused(tmp_path: Path) -> None:
    results = Results(format=999, started="now", machine={}, versions={}, options={})
    write_results(results, tmp_path / "one.json")
    with pytest.raises(ValueError, match="format 999"):
        read_results(tmp_path / "one.json")


def group(name: str, started: str, value: float, *, complete: bool = True, version: str = "1") -> Results:
    facts = GroupFacts(
        started=started, minutes=1, rounds=1, scale=1, load_before=0, load_after=0, complete=complete
    )  # fmt: skip
    results = Results(
        started=started, complete=complete, machine={}, versions={"fusepkg": version}, options={}, groups={name: facts}
    )
    results.add_row(name, f"the row {name}", "s")
    results.samples.append(Sample(row=name, subject="erofs", round=0, value=value, passes=[], load=0.0))
    return results


def test_groups_of_several_files_become_one_report() -> None:
    joined = join([group("b", "2", 2.0), group("a", "1", 1.0)])
    assert list(joined.groups) == ["a", "b"]
    assert [sample.value for sample in joined.samples] == [1.0, 2.0]
    assert [row.key for row in joined.rows] == ["a", "b"]


def test_of_a_group_that_was_measured_twice_the_last_complete_run_counts() -> None:
    joined = join([group("a", "1", 1.0), group("a", "2", 2.0), group("a", "3", 3.0, complete=False)])
    assert [sample.value for sample in joined.samples] == [2.0]


def test_results_of_two_versions_are_not_joined() -> None:
    with pytest.raises(ValueError, match="1 and 2 differ in fusepkg"):
        join([group("a", "1", 1.0), group("b", "2", 2.0, version="2")])
