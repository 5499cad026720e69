from __future__ import annotations

from pathlib import Path

import pytest

from scripts.write_readme_figures import figures, updated

ROOT = Path(__file__).parents[2]
PAGE = """\
| row | of | aim | measured | reached |
| --- | ---: | ---: | ---: | ---: |
| first epoch, 8 readers, 20 files, 20 ms away | erofs | at least 15 x rclone | 3.00 | no |

|  | erofs | juicefs | rclone full |
| --- | ---: | ---: | ---: |
| first epoch, 8 readers, 20 files, 20 ms away | 3,000 | 200 | 180 |
| second epoch, shuffled, page cache dropped, 8 readers, 20 files | 9,000 | 1,800 | 1,200 |

|  | fusepkg | quilt3 |
| --- | ---: | ---: |
| open 1,000,000 entries, again in a new process | 0.01 | 16.8 |
"""


def test_the_readme_shows_the_figures_of_the_benchmarks_page() -> None:
    readme = (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert updated(readme, page) == readme, "python scripts/write_readme_figures.py"


def test_peers_come_first_and_each_has_a_column() -> None:
    head, _, *lines = figures(PAGE).splitlines()
    assert head == "| | fusepkg | rclone | JuiceFS | quilt3 |"
    assert lines == [
        "| first read of 20 files, 20 ms away | 3,000 files/s | 180 files/s | 200 files/s |  |",
        "| 20 files again, shuffled, from the cache | 9,000 files/s | 1,200 files/s | 1,800 files/s |  |",
        "| open a package of 1,000,000 files, again in a new process | 0.01 s |  |  | 16.8 s |",
    ]


def test_a_page_with_too_few_rows_leaves_the_readme_alone() -> None:
    with pytest.raises(SystemExit, match="has 0 of the rows"):
        figures("nothing measured")
