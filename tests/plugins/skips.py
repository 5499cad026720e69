"""Says loudly, at the end of a run, which part of the product this machine did not test."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.machine import why_no_fuse, why_no_s3

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "stress" not in config.option.markexpr:  # long, so only where asked for by name
        stress = [item for item in items if item.get_closest_marker("stress")]
        config.hook.pytest_deselected(items=stress)
        items[:] = [item for item in items if item not in stress]
    reasons = {"fuse": why_no_fuse(), "s3": why_no_s3()}
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.getreports("skipped"))
    if not reasons:
        return
    total = sum(reasons.values())
    terminalreporter.section(f"NOT TESTED ON THIS MACHINE: {total} tests", sep="!", red=True, bold=True)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5d}  {reason.removeprefix('Skipped: ')}", red=True)
