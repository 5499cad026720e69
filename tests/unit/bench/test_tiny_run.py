"""The bench itself runs, over a handful of files, and writes its page; no time is judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import render
from bench.results import read_results

ROOT = Path(__file__).parents[3]


@pytest.mark.fuse
def test_a_tiny_run_measures_every_subject_and_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\n<!-- measured -->\nstale\n<!-- end -->\n\nafter\n")
    where = ["--scratch", tmp_path, "--results", tmp_path / "results", "--page", page]
    options = ["--rounds", "1", "--rows", "in-place", "--scale", "0.0005", "--dry"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options, *map(str, where)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "results").glob("*.json")
    results = read_results(written)
    measured = {sample.subject for sample in results.samples if sample.row == "in-place.first.8"}
    assert measured | set(results.skipped) >= {"local", "erofs", "fuse"}
    assert results.groups["in-place"].complete
    text = page.read_text()
    assert text.startswith("# Benchmarks\n")
    assert text.endswith("<!-- end -->\n\nafter\n")
    assert "stale" not in text
    assert render(results, markdown=True).strip() in text
    assert list(tmp_path.glob("fusepkg-bench-*")) == []
