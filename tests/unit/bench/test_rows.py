from __future__ import annotations

from typing import TYPE_CHECKING

from bench.memory import Peak
from bench.results import Results
from bench.rows import Row, Run, measure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def make_run(scratch: Path) -> Run:
    return Run(Results(started="now", machine={}, versions={}, options={}), scratch, 1, 1.0)


def test_whatever_a_row_raises_the_others_go_on_and_the_report_names_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with run.attempt("juicefs, cold"):
        raise KeyError("no such column")
    assert "no such column" in run.results.skipped["juicefs, cold"]


def test_what_groups_share_is_made_once(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    made = [run.once("server", lambda: object()), run.for_group(run.results).once("server", lambda: object())]
    assert made[0] is made[1]


def test_a_row_that_is_warmed_up_is_read_once_more_and_that_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "passes"

    def loop() -> Callable[[], float]:
        def work() -> float:
            with log.open("a") as file:
                file.write("x")
            return 1.0

        return work

    row = Row("a", "a row", "files/s", lambda _: [loop], once=True, warm_up=True)
    passes, _ = measure(row, tmp_path, Peak(list), None)
    assert (len(passes), log.read_text()) == (1, "xx")
