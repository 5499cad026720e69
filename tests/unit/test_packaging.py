"""What pyproject.toml promises and requirements.lock pins agree."""

from __future__ import annotations

import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKED = {
    canonicalize_name(one.name): one
    for one in (Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines())
}
ASKED = {
    "dependencies": PROJECT["project"]["dependencies"],
    "dev": PROJECT["dependency-groups"]["dev"],
    "bench": PROJECT["dependency-groups"]["bench"],
}


@pytest.mark.parametrize("group", ASKED)
def test_every_requirement_is_locked_to_a_release_it_allows(group: str) -> None:
    for asked in map(Requirement, ASKED[group]):
        assert canonicalize_name(asked.name) in LOCKED, f"{asked.name} is not locked: make lock"
        (pin,) = LOCKED[canonicalize_name(asked.name)].specifier
        assert pin.operator == "=="
        assert asked.specifier.contains(pin.version), f"{asked} is locked to {pin.version}: make lock"


def test_the_package_says_where_the_project_is() -> None:
    urls = dict(url.split(", ", 1) for url in metadata("fusepkg").get_all("Project-URL") or ())
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues"}
