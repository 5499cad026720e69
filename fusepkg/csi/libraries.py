"""The libraries of the driver, or one message that says what is missing."""

from __future__ import annotations

from fusepkg.errors import MissingExtra

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import Message
except ImportError as exc:
    raise MissingExtra("the CSI driver needs grpcio and protobuf", hint='pip install "fusepkg[csi]"') from exc

__all__ = ["Message", "descriptor_pb2", "descriptor_pool", "grpc", "message_factory"]
