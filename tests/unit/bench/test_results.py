from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.results import Results, Sample, read_results, write_results

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
