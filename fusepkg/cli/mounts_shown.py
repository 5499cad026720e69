"""What `mounts` and `status` tell of mounts. No library of the command line is needed for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.cli.output import (
    counted,
    human_bytes,
    print_json,
    print_table,
    say,
    short,
    time_text,
)
from fusepkg.daemon import control, mount_table, records

if TYPE_CHECKING:
    from fusepkg.daemon.mount_table import Mounted
    from fusepkg.daemon.records import MountRecord


def show_mounts(as_json: bool) -> None:
    """Print all mounts of this user."""
    found = records.read_records()
    others = records.unrecorded_mounts(found)
    if as_json:
        facts = [msgspec.to_builtins(record) | {"alive": records.is_alive(record)} for record in found]
        print_json(facts + [_unrecorded_facts(mount) for mount in others])
        return
    print_table(
        ("PACKAGE", "HASH", "DIRECTORY", "ENGINE", "STATE"),
        [
            (
                _with_view(record),
                short(record.view.top_hash if record.view else record.top_hash),
                record.mountpoint,
                record.engine,
                _state(record),
            )
            for record in found
        ]
        + [(*_unrecorded_row(mount), "no record: umount it") for mount in others],
    )


def named(record: MountRecord) -> str:
    """``bucket/name:tag (3c1b29d98)``, with what picked its entries if it is a view."""
    if record.view is None:
        return f"{record.reference} ({short(record.top_hash)})"
    laid_out = f" as {record.view.layout}" if record.view.layout else ""
    return f"{record.reference} ({short(record.view.top_hash)}), a view: where {record.view.where}{laid_out}"


def _with_view(record: MountRecord) -> str:
    return f"{record.reference} where {record.view.where}" if record.view else record.reference


def _unrecorded_row(mount: Mounted) -> tuple[str, str, str, str]:
    source = mount.source.decode(errors="backslashreplace")
    return source, "", mount.path.decode(errors="backslashreplace"), _engine(mount)


def _unrecorded_facts(mount: Mounted) -> dict[str, object]:
    """Return what the kernel's table says of a mount that has no record."""
    source, _, path, engine = _unrecorded_row(mount)
    return {"reference": source, "mountpoint": path, "engine": engine, "device": mount.device, "alive": False}


def _engine(mount: Mounted) -> str:
    return "erofs" if mount.kind == b"erofs" else "fuse"


def _state(record: MountRecord) -> str:
    if record.failure:
        return f"failed, {record.failure}: umount it"
    if not records.is_alive(record) and record.engine == "image":
        return "mounted, but its process is dead: reads go on"
    if not records.is_alive(record):
        return "dead: umount it"
    if not mount_table.mounted_at(Path(record.mountpoint)):
        return "in use elsewhere"
    supervised = ", supervised" if record.supervisor is not None else ""
    return f"mounted{supervised}" + (f", follows {record.follow}" if record.follow else "")


def show_mount(record: MountRecord, as_json: bool) -> None:
    """Print the `status` of a mount: its package, and what it has fetched."""
    facts = control.ask(Path(record.socket), control.Question("status"))
    if as_json:
        print_json(msgspec.to_builtins(record) | facts)
        return
    counters = facts["counters"]
    say(f"Package: {named(record)}")
    say("No files have been changed")
    since = time_text(record.started_s)
    say(f"Mounted: {record.mountpoint}, {record.engine} engine, process {record.pid}, since {since}")
    say(f"Holds: {counted(facts['entries'], 'file')}, {human_bytes(facts['total_bytes'])}")
    say(f"Fetched: {counted(counters['fetched_objects'], 'object')}, {human_bytes(counters['fetched_bytes'])}")
    if counters["ahead_bytes"]:
        ahead = human_bytes(counters["ahead_bytes"]), human_bytes(counters["ahead_read_bytes"])
        say("Fetched ahead of reads: {}, of it read since: {}".format(*ahead))
    if counters["lower_objects"]:
        lower = counted(counters["lower_objects"], "object")
        say(f"Taken from the lower cache: {lower}, {human_bytes(counters['lower_bytes'])}")
    if counters["shared_objects"]:
        say(f"Fetched by other processes meanwhile: {counted(counters['shared_objects'], 'object')}")
    say(f"Served: {human_bytes(counters['served_bytes'])}; {counted(counters['cache_hits'], 'read')} from the cache")
    if counters.get("in_place_bytes"):
        size = human_bytes(counters["in_place_bytes"])
        say(f"Read from files of this machine, where they lie: {size}")
    if "waits" in facts and any(facts["waits"]["counts"]):
        say(f"Waited for the bucket: {_waits(facts['waits'])}")
    for running in facts.get("prefetches", ()):
        files, size = f"{running['files']:,} of {counted(running['total_files'], 'file')}", running["total_bytes"]
        say(f"Prefetching: {files}, {human_bytes(running['bytes'])} of {human_bytes(size)}")
    _show_profile(facts.get("profile") or {})
    if counters["failed_fetches"] or counters["cache_failures"]:
        failed = counters["failed_fetches"], counters["cache_failures"]
        say("Failed fetches: {:,}; not kept in the cache: {:,}".format(*failed))
    if facts["cache_refusal"]:
        say(f"Cache: not in use: {facts['cache_refusal']}")
    if record.offline_since_s is not None:
        say(f"Offline: the tag was last seen to name this version at {time_text(record.offline_since_s)}")
    if facts.get("workers"):
        say(f"Answered from the cache by: processes {', '.join(map(str, facts['workers']))} too")
    if record.supervisor is not None:
        say(f"Supervised: by process {record.supervisor}, which replaces process {record.pid} if it dies")
    if facts["follow"]:
        _show_following(facts["follow"])
    say(f"Log: {record.log}")


def _show_profile(facts: dict[str, Any]) -> None:
    recording, replay = facts.get("recording"), facts.get("replay")
    if recording:
        say(f"Recording: the access profile {recording['name']}, {counted(recording['reads'], 'read')} so far")
    if replay and "files" not in replay:
        say(f"Replaying: nothing: {replay['error']['message']}")
    elif replay:
        done = f"{replay['files']:,} of {counted(replay['total_files'], 'read')}"
        skipped = f", {replay['skipped_files']:,} of them left out" if replay["skipped_files"] else ""
        ended = f"; ended: {replay['error']['message']}" if replay["error"] else ""
        fetched = human_bytes(replay["fetched_bytes"])
        say(f"Replaying: the access profile {replay['name']}, {done}{skipped}; {fetched} fetched{ended}")


def show_unrecorded(mount: Mounted, as_json: bool) -> None:
    """Print the `status` of a mount without a record: what the kernel's table says of it."""
    if as_json:
        print_json(_unrecorded_facts(mount))
        return
    source, _, path, engine = _unrecorded_row(mount)
    say(f"Package: {source}")
    say("No files have been changed")
    say(f"Mounted: {path}, {engine} engine")
    say(f"No record: its process cannot be asked for more. `fusepkg umount {path}` ends it")


def _waits(facts: dict[str, Any]) -> str:
    parts = {"half of these reads": "p50_s", "95 %": "p95_s", "99 %": "p99_s"}
    return ", ".join(f"{words} up to {_bound(facts[name])}" for words, name in parts.items())


def _bound(seconds: float | None) -> str:
    return "minutes" if seconds is None else f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def _show_following(facts: dict[str, Any]) -> None:
    asked = f"last asked {time_text(facts['asked_s'])}" if facts["asked_s"] else "not asked yet"
    say(f"Follows: the tag {facts['tag']}, every {facts['interval_s']:g} s, {asked}")
    if facts["failure"]:
        say(f"Cannot follow since {time_text(facts['failing_since_s'])}: {facts['failure']}")
