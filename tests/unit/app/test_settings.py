"""Amounts of room on a disk: how they are written, and which source of a wrong one is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusepkg.app.settings import Flags, decide, parse_amount
from fusepkg.errors import UsageError
from fusepkg.fetch.caching import DEFAULT_FREE, Amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", Amount(bytes=0)),
        ("1000000", Amount(bytes=1_000_000)),
        ("12B", Amount(bytes=12)),
        ("10kB", Amount(bytes=10_000)),
        ("10KB", Amount(bytes=10_000)),
        ("10K", Amount(bytes=10 * 1024)),
        ("10KiB", Amount(bytes=10 * 1024)),
        ("1.5 GiB", Amount(bytes=3 << 29)),
        (" 20 GB ", Amount(bytes=20 * 10**9)),
        ("2TB", Amount(bytes=2 * 10**12)),
        ("1PiB", Amount(bytes=1 << 50)),
        ("20%", Amount(part=0.2)),
        ("0.5 %", Amount(part=0.005)),
        ("100%", Amount(part=1.0)),
    ],
)
def test_an_amount_is_bytes_or_a_part_of_the_disk(text: str, amount: Amount):
    assert parse_amount(text, "a test") == amount


@pytest.mark.parametrize(
    "text", ["", " ", "much", "-1", "1 potato", "1iB", "1i", "10 20", "1e9", "101%", "%", "GB", "1,5GB"]
)
def test_what_is_no_amount_is_refused(text: str):
    with pytest.raises(UsageError, match="a test is "):
        parse_amount(text, "a test")


def test_a_part_is_of_the_disk_and_the_lesser_of_two_counts():
    assert Amount(part=0.2).of_disk(1000) == 200
    assert Amount(bytes=300).of_disk(1000) == 300
    assert DEFAULT_FREE.of_disk(20 * 1024**3) == 1024**3
    assert DEFAULT_FREE.of_disk(1024**4) == 5 * 1024**3


def test_the_source_of_a_wrong_amount_is_named(home: Path, monkeypatch: pytest.MonkeyPatch):
    file = Path(os.environ["FUSEPKG_CONFIG"])
    for name, variable, flag in (
        ("cache_size", "FUSEPKG_CACHE_SIZE", Flags(cache_size="lots")),
        ("cache_free", "FUSEPKG_CACHE_FREE", Flags(cache_free="lots")),
    ):
        file.write_text(f'{name} = "lots"\n')
        with pytest.raises(UsageError, match=f"{name} in {file} is 'lots'"):
            decide(Flags())
        file.write_text(f"{name} = true\n")
        with pytest.raises(UsageError, match=f"{file}: {name} must be of type str or int"):
            decide(Flags())
        file.write_text(f"{name} = 1000\n")
        monkeypatch.setenv(variable, "lots")
        with pytest.raises(UsageError, match=f"{variable} is 'lots'"):
            decide(Flags())
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is 'lots'"):
            decide(flag)
        monkeypatch.delenv(variable)
        assert getattr(decide(Flags()).cache, name.removeprefix("cache_")) == Amount(bytes=1000)


def test_none_lifts_a_bound_that_the_file_sets(home: Path):
    Path(os.environ["FUSEPKG_CONFIG"]).write_text('cache_size = "1GB"\n')
    assert decide(Flags()).cache.size == Amount(bytes=10**9)
    assert decide(Flags(cache_size="none")).cache.size is None


def test_a_configuration_that_others_can_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text('cache_dir = "/elsewhere"\n')
    config.chmod(0o666)
    monkeypatch.setenv("FUSEPKG_CONFIG", str(config))
    with pytest.raises(UsageError, match="is not used: it can be written to by other users"):
        decide(Flags())


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "inf", "86401", ""])
def test_a_retry_timeout_that_is_no_time_is_refused(home: Path, text: str) -> None:
    with pytest.raises(UsageError, match="--retry-timeout"):
        decide(Flags(retry_timeout=text))
    assert decide(Flags(retry_timeout="1.5s")).retry_timeout_s == 1.5
