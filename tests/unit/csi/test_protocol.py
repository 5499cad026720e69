"""The messages are, byte for byte, those of the specification of the Container Storage Interface."""

from __future__ import annotations

from typing import Any

import pytest

from fusepkg.csi.protocol import MESSAGES, SERVICES

CAPABILITY = {
    "mount": {"fs_type": "f", "mount_flags": ["ro", "x"], "volume_mount_group": "g"},
    "access_mode": {"mode": 3},
}

BYTES_OF: list[tuple[str, dict[str, Any], str]] = [
    (
        "GetPluginInfoResponse",
        {"name": "n", "vendor_version": "v", "manifest": {"k": "w"}},
        "0a016e1201761a060a016b120177",
    ),
    ("ProbeResponse", {"ready": {"value": True}}, "0a020801"),
    (
        "NodePublishVolumeRequest",
        {
            "volume_id": "i",
            "publish_context": {"a": "b"},
            "staging_target_path": "/s",
            "target_path": "/t",
            "volume_capability": CAPABILITY,
            "readonly": True,
            "secrets": {"c": "d"},
            "volume_context": {"e": "f"},
        },
        "0a016912060a01611201621a022f7322022f742a13120d0a01661202726f1201781a01671a020803"
        "30013a060a016312016442060a0165120166",
    ),
    ("VolumeCapability", {"block": {}}, "0a00"),
    ("NodeUnpublishVolumeRequest", {"volume_id": "i", "target_path": "/t"}, "0a016912022f74"),
    (
        "NodeGetVolumeStatsRequest",
        {"volume_id": "i", "volume_path": "/t", "staging_target_path": "/s"},
        "0a016912022f741a022f73",
    ),
    (
        "NodeGetVolumeStatsResponse",
        {
            "usage": [{"available": 1, "total": 3, "used": 2, "unit": 1}, {"total": 3, "unit": 2}],
            "volume_condition": {"abnormal": True, "message": "m"},
        },
        "0a0808011003180220010a04100320021205080112016d",
    ),
    (
        "NodeGetCapabilitiesResponse",
        {"capabilities": [{"rpc": {"type": 2}}, {"rpc": {"type": 4}}]},
        "0a040a0208020a040a020804",
    ),
    ("NodeGetInfoResponse", {"node_id": "n", "max_volumes_per_node": 5}, "0a016e1005"),
]
"""What code that protoc made of the specification's own csi.proto (1.13) writes for these values."""


@pytest.mark.parametrize(("name", "values", "written"), BYTES_OF, ids=[one[0] for one in BYTES_OF])
def test_messages_are_those_of_the_specification(name: str, values: dict[str, Any], written: str) -> None:
    assert MESSAGES[name](**values).SerializeToString(deterministic=True).hex() == written
    assert MESSAGES[name].FromString(bytes.fromhex(written)) == MESSAGES[name](**values)


def test_every_call_has_its_messages() -> None:
    calls = [call for service in SERVICES.values() for call in service]
    assert {f"{call}{kind}" for call in calls for kind in ("Request", "Response")} <= set(MESSAGES)


def test_fields_that_are_not_known_are_passed_over() -> None:
    assert MESSAGES["NodeGetInfoRequest"].FromString(bytes.fromhex("0a016e1005")) is not None
