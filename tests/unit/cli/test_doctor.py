"""doctor: one text for a report, without secrets, whatever is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.command import Fusepkg

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEB",
    "HTTPS_PROXY": "http://ada:lovelace@127.0.0.1:3128",
    "AWS_ENDPOINT_URL_S3": "https://ada:lovelace@127.0.0.1:9",
}


def test_every_part_is_there_and_no_secret(fusepkg: Fusepkg):
    text = fusepkg("doctor", env=SECRETS).stdout
    told = fusepkg("doctor", "--json", env=SECRETS).stdout
    facts = json.loads(told)
    assert list(facts) == [
        "fusepkg", "machine", "engines", "settings", "cache", "credentials", "environment", "mounts",
    ]  # fmt: skip
    assert facts["credentials"]["source"] == "env"
    assert facts["environment"]["AWS_SECRET_ACCESS_KEY"] == "(set)"
    for secret in ("AKIAIOSFODNN7", "wJalr", "FwoG", "lovelace"):
        assert secret not in text
        assert secret not in told


def test_what_is_broken_hides_nothing_else(fusepkg: Fusepkg, tmp_path: Path):
    broken = {"FUSEPKG_CACHE_DIR": "/proc/no/cache", "AWS_PROFILE": "nobody", "HOME": str(tmp_path)}
    facts = json.loads(fusepkg("doctor", "--json", env=broken).stdout)
    assert facts["cache"]["code"] == "cache"
    assert "nobody" in facts["credentials"]["error"]
    assert facts["machine"]["cores"]
