"""What mount(8) hands to mount.fusepkg, and what becomes of it."""

from __future__ import annotations

import pytest

from fusepkg.cli.fstab import RETRY_S, parse_call
from fusepkg.errors import UsageError

PLACE = ["bucket/data:v1", "/mnt/data"]


def test_an_fstab_line_becomes_a_mount_command() -> None:
    call = parse_call(
        [*PLACE, "-o", "ro,_netdev,nofail,x-systemd.automount,allow_other,engine=fuse,cache_dir=/var/cache/f,retry=5"]
    )
    assert call.arguments == (
        "mount", "--allow-other", "--engine", "fuse", "--cache-dir", "/var/cache/f", "--", *PLACE,
    )  # fmt: skip
    assert (call.retry_s, call.is_fake, call.environment) == (5.0, False, {})


def test_files_for_credentials_are_named_in_the_environment() -> None:
    call = parse_call([*PLACE, "-o", "aws_credentials=/etc/aws,profile=train", "-o", "config=/etc/fusepkg.toml"])
    assert call.environment == {"AWS_SHARED_CREDENTIALS_FILE": "/etc/aws", "FUSEPKG_CONFIG": "/etc/fusepkg.toml"}
    assert call.arguments[1:3] == ("--profile", "train")
    assert call.retry_s == RETRY_S


def test_the_letters_of_mount_8_change_nothing_but_fake() -> None:
    assert parse_call(["-n", *PLACE, "-v", "-t", "fusepkg"]).arguments == ("mount", "--", *PLACE)
    assert parse_call([*PLACE, "-f"]).is_fake


def test_a_name_that_looks_like_an_option_stays_a_name() -> None:
    assert parse_call(["bucket/data:v1", "/mnt/-x"]).arguments[-1] == "/mnt/-x"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["bucket/data"], "1 names"),
        ([*PLACE, "third"], "3 names"),
        ([*PLACE, "-o"], "-o lacks its value"),
        ([*PLACE, "-x"], "there is no -x"),
        ([*PLACE, "-o", "ro,rw"], "rw cannot be: a version never changes"),
        ([*PLACE, "-o", "remount"], "remount cannot be"),
        ([*PLACE, "-o", "noexec"], "noexec cannot be"),
        ([*PLACE, "-o", "engine"], "engine lacks its value"),
        ([*PLACE, "-o", "allow_other=1"], "there is no option allow_other"),
        ([*PLACE, "-o", "uid=7"], "there is no option uid"),
        ([*PLACE, "-o", "retry=soon"], "retry=soon is no number"),
        ([*PLACE, "-o", "retry=nan"], "retry=nan is no number"),
    ],
)
def test_what_cannot_be_is_refused_and_named(arguments: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_call(arguments)


def test_a_sloppy_mount_passes_over_what_it_does_not_know() -> None:
    assert parse_call([*PLACE, "-s", "-o", "uid=7"]).arguments == ("mount", "--", *PLACE)
    with pytest.raises(UsageError):
        parse_call([*PLACE, "-s", "-o", "rw"])
