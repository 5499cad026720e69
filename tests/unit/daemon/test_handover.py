"""What one worker hands to the next, which may be of a newer fusepkg."""

from __future__ import annotations

import json
from pathlib import Path

from fusepkg.app.settings import Flags, Settings, decide
from fusepkg.daemon.handover import plain, restored
from fusepkg.daemon.records import View
from fusepkg.daemon.request import MountRequest
from fusepkg.model.reference import parse_reference


def request() -> MountRequest:
    return MountRequest(
        parse_reference("local/p:v1"), Path("/m"), decide(Flags(cache_size="20%")), prefetch=("a", "b"),
        view=View(reference="local/p", top_hash="ab" * 32, where="x = 1"),
    )  # fmt: skip


def test_a_request_arrives_as_it_was(home: Path) -> None:
    assert restored(json.loads(json.dumps(plain(request())))) == request()


def test_fields_that_came_or_went_with_another_fusepkg(home: Path) -> None:
    told = plain(request())
    settings = told["fields"]["settings"]["fields"]
    settings["of_old"] = 1
    del settings["max_memory"]
    del told["fields"]["times"]
    found = restored(told)
    assert found == request()
    assert isinstance(found.settings, Settings)
