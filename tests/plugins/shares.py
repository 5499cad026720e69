"""How the processes of a run share the tests: a file goes to one of them, and those that take long come first.

A long file that came last would keep one process busy while the others have nothing left. What stands in ``unit`` is
short, so it comes last and fills the gaps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

FIRST = ("docs", "unit/bench", "mount", "integration", "interop", "samples", "fault", "contract")
"""Folders of the files that take long, the longest first."""

SPLIT = "tests/docs/test_commands.py"
"""A file that would take a quarter of the run in one process, and the tests of which share nothing but the server."""

TOGETHER = tuple(f"tests/mount/test_{name}.py" for name in ("damage", "facts", "reading", "requests", "under_fire"))
"""Files that go to one process: each other that had one of them would publish the big tree again, 10 s of CPU."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes of a run
        tests = Path(__file__).parents[1]
        first = [tests / name for name in FIRST]
        places = {path: _place(path, first) for path in {item.path for item in items}}
        items.sort(key=lambda item: places[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Share out by file, in the order above; another way that the command line names stays as it is."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # here: runs in one process may do without xdist

    class Shares(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(f"{SPLIT}::"):
                return nodeid
            file = str(super()._split_scope(nodeid))
            return TOGETHER[0] if file in TOGETHER else file

    config.option.loadscopereorder = False  # it would begin with the files that have most tests
    return Shares(config, log)


def _place(path: Path, first: list[Path]) -> int:
    return next((place for place, folder in enumerate(first) if path.is_relative_to(folder)), len(first))
