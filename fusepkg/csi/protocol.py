"""The messages of csi.v1 that this driver uses, made when the module is loaded: no generated code is kept.

Names, numbers and types are those of the specification of the Container Storage Interface, 1.13. Protocol buffers pass
over fields that a reader does not know, so those without a use here are left out. Enumerations are numbers on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusepkg.csi.libraries import descriptor_pb2, descriptor_pool, message_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "csi.v1"

_MAP = "map"
"""A map from strings to strings."""

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Flag": {"value": (1, "bool")},  # google.protobuf.BoolValue, which a name on the wire does not tell from others
    "GetPluginInfoRequest": {},
    "GetPluginInfoResponse": {"name": (1, "string"), "vendor_version": (2, "string"), "manifest": (3, _MAP)},
    "GetPluginCapabilitiesRequest": {},
    "GetPluginCapabilitiesResponse": {},
    "ProbeRequest": {},
    "ProbeResponse": {"ready": (1, "Flag")},
    "MountVolume": {
        "fs_type": (1, "string"),
        "mount_flags": (2, "repeated string"),
        "volume_mount_group": (3, "string"),
    },
    "BlockVolume": {},
    "AccessMode": {"mode": (1, "int32")},
    "VolumeCapability": {"block": (1, "BlockVolume"), "mount": (2, "MountVolume"), "access_mode": (3, "AccessMode")},
    "NodePublishVolumeRequest": {
        "volume_id": (1, "string"),
        "publish_context": (2, _MAP),
        "staging_target_path": (3, "string"),
        "target_path": (4, "string"),
        "volume_capability": (5, "VolumeCapability"),
        "readonly": (6, "bool"),
        "secrets": (7, _MAP),
        "volume_context": (8, _MAP),
    },
    "NodePublishVolumeResponse": {},
    "NodeUnpublishVolumeRequest": {"volume_id": (1, "string"), "target_path": (2, "string")},
    "NodeUnpublishVolumeResponse": {},
    "NodeGetVolumeStatsRequest": {
        "volume_id": (1, "string"),
        "volume_path": (2, "string"),
        "staging_target_path": (3, "string"),
    },
    "VolumeUsage": {"available": (1, "int64"), "total": (2, "int64"), "used": (3, "int64"), "unit": (4, "int32")},
    "VolumeCondition": {"abnormal": (1, "bool"), "message": (2, "string")},
    "NodeGetVolumeStatsResponse": {"usage": (1, "repeated VolumeUsage"), "volume_condition": (2, "VolumeCondition")},
    "NodeGetCapabilitiesRequest": {},
    "RPC": {"type": (1, "int32")},
    "NodeServiceCapability": {"rpc": (1, "RPC")},
    "NodeGetCapabilitiesResponse": {"capabilities": (1, "repeated NodeServiceCapability")},
    "NodeGetInfoRequest": {},
    "NodeGetInfoResponse": {"node_id": (1, "string"), "max_volumes_per_node": (2, "int64")},
}
"""Fields by message: their number and type. The types nested in a message of the specification stand beside it."""

SERVICES = {
    "Identity": ("GetPluginInfo", "GetPluginCapabilities", "Probe"),
    "Node": ("NodePublishVolume", "NodeUnpublishVolume", "NodeGetVolumeStats", "NodeGetCapabilities", "NodeGetInfo"),
}
"""The calls that are answered, each with a message NAMERequest and one NAMEResponse; all others are UNIMPLEMENTED."""

GET_VOLUME_STATS, VOLUME_CONDITION = 2, 4
"""Of NodeServiceCapability.RPC.Type."""

BYTES, INODES = 1, 2
"""Of VolumeUsage.Unit."""

READER_MODES = frozenset({2, 3})
"""Of VolumeCapability.AccessMode.Mode: SINGLE_NODE_READER_ONLY, MULTI_NODE_READER_ONLY."""

MODES = frozenset(range(1, 8))

_SCALARS = {"string": "TYPE_STRING", "bool": "TYPE_BOOL", "int32": "TYPE_INT32", "int64": "TYPE_INT64"}


def _described() -> Iterator[Any]:
    """Yield the description of each message."""
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = descriptor_pb2.DescriptorProto(name=name)
        for field, (number, type_name) in fields.items():
            repeated, _, base = type_name.rpartition(" ")
            added = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if repeated or base == _MAP:
                added.label = kinds.LABEL_REPEATED
            if base in _SCALARS:
                added.type = getattr(kinds, _SCALARS[base])
                continue
            added.type = kinds.TYPE_MESSAGE
            if base == _MAP:
                base = f"{name}.{_add_entry(message, field)}"
            added.type_name = f".{PACKAGE}.{base}"
        yield message


def _add_entry(message: Any, field: str) -> str:  # noqa: ANN401 - protobuf has no types of its own
    """Add the message of one entry of a map, as protoc does; return its name."""
    kinds = descriptor_pb2.FieldDescriptorProto
    entry = message.nested_type.add(name="".join(map(str.capitalize, field.split("_"))) + "Entry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
    return str(entry.name)


def _made() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="fusepkg/csi.proto", package=PACKAGE, syntax="proto3")
    file.message_type.extend(_described())
    pool = descriptor_pool.DescriptorPool()  # not the default one: another library may have csi.v1 in it
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES
    }


MESSAGES: dict[str, Any] = _made()
"""The class of each message, by its name."""
