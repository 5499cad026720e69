"""The page of settings is what its tables say, and the tables are what the code does."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fusepkg import errors
from fusepkg.app import settings
from fusepkg.cli.application import application
from fusepkg.errors import UsageError

ROOT = Path(__file__).parents[2]


def _load_reference() -> Any:
    spec = util.spec_from_file_location("fusepkg_reference_pages", ROOT / "scripts" / "write_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


reference = _load_reference()


def test_page_is_current() -> None:
    assert reference.main(["--check"]) == 0, "docs/reference/config.md is stale: make docs"


def test_all_settings_are_documented() -> None:
    assert [one.name for one in reference.SETTINGS] == list(settings._FILE_KEYS)
    group: Any = typer.main.get_command(application())
    flags = {opt for param in group.params for opt in param.opts if opt.startswith("--")}
    documented = {one.flag for one in reference.SETTINGS if one.flag}
    assert flags - documented == {"--debug", "--version"}
    assert documented <= flags


@pytest.fixture
def file(home: Path) -> Path:
    """The configuration file, empty."""
    file = Path(os.environ["FUSEPKG_CONFIG"])
    file.touch()
    return file


GIVEN = {
    "cache_size": ("10%", "20%", "30%"),
    "cache_free": ("1kB", "2kB", "3kB"),
    "retry_timeout": ("1.5", "2.5", "3.5"),
    "read_timeout": ("1.5", "2.5", ""),
    "request_timeout": ("1.5", "2.5", ""),
    "follow_interval": ("1.5", "2.5", ""),
    "max_memory": ("1GB", "2GB", ""),
    "copy_local": ("true", "0", ""),
}
"""Settings that are no names or paths: what the file, the environment and the flag say of them."""


AMOUNTS = ("cache_size", "cache_free", "max_memory")

NUMBERS = ("read_timeout", "request_timeout", "follow_interval")


@pytest.mark.parametrize("one", reference.SETTINGS, ids=lambda one: one.name)
def test_file_loses_to_environment_loses_to_flag(one: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in reference.SETTINGS:
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)
    default = _decided(one.name)
    in_file, in_environment, as_flag = GIVEN.get(one.name, ("/file", "/environment", "/flag"))
    value = "false" if one.name == "sign" else in_file if one.name in (*NUMBERS, "copy_local") else f'"{in_file}"'
    file.write_text(f"{one.name} = {value}\n")
    assert _decided(one.name) == ("False" if one.name == "sign" else _shown(one.name, in_file)) != default
    for variable in one.variables:
        monkeypatch.setenv(variable, in_environment)
        # AWS's own variables are left to its client: the file must not be handed to it then.
        assert _decided(one.name) == ("None" if variable.startswith("AWS_") else _shown(one.name, in_environment))
        if one.flag:
            flag = Path(as_flag) if one.name in ("cache_dir", "cache_lower") else as_flag
            assert _decided(one.name, **{one.name: flag}) == _shown(one.name, as_flag)
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_timeout_that_is_none_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FUSEPKG_READ_TIMEOUT", text)
    with pytest.raises(UsageError, match=f"FUSEPKG_READ_TIMEOUT is '{text}'"):
        settings.decide(settings.Flags())


def test_what_is_neither_yes_nor_no_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEPKG_COPY_LOCAL", "perhaps")
    with pytest.raises(UsageError, match="FUSEPKG_COPY_LOCAL is 'perhaps', which is neither yes nor no"):
        settings.decide(settings.Flags())


def test_sign_is_off_by_flag(file: Path) -> None:
    assert _decided("sign") == "True"
    assert _decided("sign", no_sign_request=True) == "False"


def test_defaults_are_below_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FUSEPKG_CACHE_DIR", "FUSEPKG_DATA_DIR", "FUSEPKG_CONFIG"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg/cache")
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg/data")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg/config")
    assert _decided("cache_dir") == "/xdg/cache/fusepkg"
    assert _decided("data_dir") == "/xdg/data/fusepkg"
    assert settings.config_path() == Path("/xdg/config/fusepkg/config.toml")
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    assert _decided("cache_dir") == f"{home}/.cache/fusepkg"
    assert _decided("data_dir") == f"{home}/.local/share/fusepkg"
    assert settings.config_path() == home / ".config/fusepkg/config.toml"


def _decided(name: str, **flags: Any) -> str:
    decided = settings.decide(dataclasses.replace(settings.Flags(), **flags))
    places = [
        (decided, name),
        (decided, f"{name}_s"),
        (decided.s3, name),
        (decided.s3, f"{name}_s"),
        (decided.cache, name.removeprefix("cache_")),
    ]
    return str(next(getattr(place, found) for place, found in places if hasattr(place, found)))


def _shown(name: str, text: str) -> str:
    if name == "copy_local":
        return str(text in ("1", "true"))
    return str(settings.parse_amount(text, "a test")) if name in AMOUNTS else text


def test_troubleshooting_has_every_exit_code() -> None:
    kinds = [errors.FusepkgError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    page = (ROOT / "docs" / "guides" / "troubleshooting.md").read_text().partition("## Exit codes")[2]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == {0, 1} | {
        kind.exit_code for kind in kinds
    }
