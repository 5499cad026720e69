from __future__ import annotations

import pytest

from bench.report import render
from bench.results import Results, Sample
from bench.targets import AIMS, BEST_PEER, ROWS_OF_AIMS, Target, outcome, ratios, value_of


def results_of(*samples: tuple[str, str, int, float], unit: str = "files/s") -> Results:
    results = Results(started="now", machine={}, versions={}, options={})
    for row, subject, number, value in samples:
        results.add_row(row, f"the row {row}", unit)
        results.samples.append(Sample(row=row, subject=subject, round=number, value=value, passes=[], load=0.0))
    return results


CACHED = "small.cached.1"


def test_ratios_are_taken_within_a_round_so_that_a_slow_round_is_slow_for_both() -> None:
    results = results_of(
        (CACHED, "local", 0, 1000.0), (CACHED, "erofs", 0, 900.0),
        (CACHED, "local", 1, 10.0), (CACHED, "erofs", 1, 9.0),
    )  # fmt: skip
    assert ratios(results, CACHED, "erofs", "local") == [0.9, 0.9]


def test_the_best_of_a_family_is_the_one_to_beat() -> None:
    results = results_of(
        (CACHED, "rclone off", 0, 10.0), (CACHED, "rclone full", 0, 40.0), (CACHED, "fuse", 0, 80.0),
        (CACHED, "rclone off", 1, 20.0), (CACHED, "rclone full", 1, 5.0), (CACHED, "fuse", 1, 80.0),
    )  # fmt: skip
    assert ratios(results, CACHED, "fuse", "rclone") == [2.0, 4.0]
    assert outcome(results, Target(CACHED, "fuse", 4.0, against="rclone")) == 3.0


def test_of_several_passes_the_fastest_counts() -> None:
    results = results_of((CACHED, "local", 0, 10.0))
    results.samples.append(Sample(row=CACHED, subject="erofs", round=0, value=5.0, passes=[3.0, 9.0, 4.0], load=0.0))
    assert ratios(results, CACHED, "erofs", "local") == [0.9]


def test_passes_taken_in_turn_with_the_local_folder_are_compared_pair_by_pair() -> None:
    results = results_of((CACHED, "local", 0, 1000.0))
    passes, beside = [90.0, 9.0, 95.0], [100.0, 10.0, 50.0]
    sample = Sample(row=CACHED, subject="erofs", round=0, value=5.0, passes=passes, beside=beside, load=0.0)
    results.samples.append(sample)
    assert ratios(results, CACHED, "erofs", "local") == [0.9]


def test_a_round_without_the_other_has_no_ratio() -> None:
    results = results_of((CACHED, "local", 0, 10.0), (CACHED, "erofs", 0, 10.0), (CACHED, "erofs", 1, 99.0))
    assert ratios(results, CACHED, "erofs", "local") == [1.0]
    assert outcome(results, Target(CACHED, "erofs", 0.8, against="rclone")) is None


def test_of_a_peak_the_most_counts_and_of_all_else_the_median() -> None:
    samples = [(row, "erofs", number, value) for row in ("memory.peak.anon", "memory.after.anon")
               for number, value in enumerate((10.0, 200.0, 20.0))]  # fmt: skip
    results = results_of(*samples, unit="MB")
    assert value_of(results, "memory.peak.anon", "erofs") == 200.0
    assert value_of(results, "memory.after.anon", "erofs") == 20.0
    assert value_of(results, "memory.after.anon", "fuse") is None


@pytest.mark.parametrize(
    ("at_least", "value", "met"), [(True, 0.8, True), (True, 0.79, False), (False, 0.8, True), (False, 0.81, False)]
)
def test_which_side_of_the_limit_is_the_right_one(at_least: bool, value: float, met: bool) -> None:
    assert Target(CACHED, "erofs", 0.8, at_least=at_least).is_met(value) is met


def test_the_best_peer_is_the_faster_of_rclone_and_juicefs_and_s3fs_does_not_count() -> None:
    samples = [(CACHED, name, 0, value) for name, value in
               (("rclone full", 10.0), ("juicefs", 20.0), ("s3fs", 90.0), ("erofs", 60.0))]  # fmt: skip
    assert outcome(results_of(*samples), Target(CACHED, "erofs", 2, BEST_PEER)) == 3.0


def test_times_are_the_inverse_of_rates() -> None:
    results = results_of((CACHED, "local", 0, 10.0), (CACHED, "fuse", 0, 2.0))
    target = Target(CACHED, "fuse", 4, "local", at_least=False, of_time=True)
    assert outcome(results, target) == 5.0
    assert target.words("files/s") == "at most 4 x the time of the folder"


def test_every_aim_has_words_for_a_page_where_it_was_not_measured() -> None:
    assert {target.row for target in AIMS} == set(ROWS_OF_AIMS)


@pytest.mark.parametrize("markdown", [False, True])
def test_the_report_shows_values_ratios_and_verdicts(markdown: bool) -> None:
    results = results_of(
        (CACHED, "local", 0, 1000.0), (CACHED, "erofs", 0, 900.0), (CACHED, "rclone off", 0, 100.0),
        (CACHED, "fuse", 0, 300.0),
    )  # fmt: skip
    results.skipped["s3"] = "no server"
    shown = render(results, markdown=markdown).splitlines()
    values = next(line for line in shown if f"the row {CACHED}" in line and "1,000" in line)
    assert [cell for cell in ("1,000", "900", "300", "100", "0.90", "0.30", "9.00", "3.00") if cell not in values] == []
    verdicts = [line.rstrip("| ").rpartition("  " if not markdown else "| ")[2] for line in shown if "at least" in line]
    assert verdicts.count("yes") == 1
    assert verdicts.count("no") == 1
    assert verdicts.count("not measured") == len(verdicts) - 2
    assert "- s3: no server" in shown
