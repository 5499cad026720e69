"""What `push` tells of a version it has published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.cli.output import counted, human_bytes, note, print_json, say, short
from fusepkg.cli.pack import describe_packs

if TYPE_CHECKING:
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.push import Pushed


def show_pushed(pushed: Pushed, manifest: PhysicalKey, as_json: bool) -> None:
    """Print what a push did, as text or as JSON, and its warnings."""
    for warning in pushed.warnings:
        note(f"Warning: {warning}")
    if not as_json:
        _describe(pushed, manifest)
        return
    facts = _facts(pushed)
    print_json(facts)


def _describe(pushed: Pushed, manifest: PhysicalKey) -> None:
    note(
        f"{counted(pushed.entries, 'file')}, {human_bytes(pushed.total_bytes)}: "
        f"uploaded {counted(pushed.uploaded_objects, 'object')}, {human_bytes(pushed.uploaded_bytes)}; "
        f"{pushed.reused_objects:,} there already"
    )
    if pushed.repaired_objects:
        note(f"{counted(pushed.repaired_objects, 'object')} of older versions was missing or damaged: uploaded again")
    if pushed.packs.new_packs:
        note(f"Small files: {describe_packs(pushed.packs)}")
    say(f"Tophash: {pushed.top_hash}")
    if pushed.tag_moved:
        say(f"Pushing manifest to {manifest.readable}")
        say(f"Linking {pushed.reference} to manifest {short(pushed.top_hash)}")
    else:
        say(f"{pushed.reference} names manifest {short(pushed.top_hash)} already")


def _facts(pushed: Pushed) -> dict[str, object]:
    return {
        "reference": str(pushed.reference),
        "top_hash": pushed.top_hash,
        "entries": pushed.entries,
        "total_bytes": pushed.total_bytes,
        "uploaded_objects": pushed.uploaded_objects,
        "uploaded_bytes": pushed.uploaded_bytes,
        "reused_objects": pushed.reused_objects,
        "reused_bytes": pushed.reused_bytes,
        "repaired_objects": pushed.repaired_objects,
        "packs": pushed.packs.packs,
        "new_packs": pushed.packs.new_packs,
        "new_pack_bytes": pushed.packs.new_bytes,
        "tag_moved": pushed.tag_moved,
        "warnings": list(pushed.warnings),
    }
