"""Answer the calls of the Container Storage Interface over a Unix socket."""

from __future__ import annotations

import logging
import select
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from fusepkg import __version__
from fusepkg.csi import protocol
from fusepkg.csi.codes import answer_to
from fusepkg.csi.libraries import grpc
from fusepkg.csi.listening import clear_place, private
from fusepkg.csi.protocol import MESSAGES
from fusepkg.csi.volumes import refuse_capability
from fusepkg.errors import SystemFailure, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusepkg.csi.libraries import Message
    from fusepkg.csi.mounts import SharedMounts
    from fusepkg.csi.node import Node

log = logging.getLogger(__name__)

DRIVER_NAME = "csi.fusepkg.github.io"
"""What StorageClasses, volumes and the CSIDriver object call this driver."""

_MAX_NODE_ID_BYTES = 256

_THREADS = 32
"""Calls at a time. A call that makes a mount takes one for as long; Kubernetes asks again after two minutes."""

_CHANGES = frozenset({"NodePublishVolume", "NodeUnpublishVolume"})
"""Calls that change something: they are logged also when they succeed."""

_GRACE_S = 5.0
"""How long calls may go on after SIGTERM. What they leave undone is done by the next driver, when asked again."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The answers to all calls."""

    node_id: str
    name: str
    node: Node
    mounts: SharedMounts

    def get_plugin_info(self, _request: Message) -> Message:
        """Return the driver's name and version."""
        return MESSAGES["GetPluginInfoResponse"](name=self.name, vendor_version=__version__)

    def get_plugin_capabilities(self, _request: Message) -> Message:
        """Return nothing: there is no controller, and volumes are as good on every node."""
        return MESSAGES["GetPluginCapabilitiesResponse"]()

    def probe(self, _request: Message) -> Message:
        """Return that calls are answered."""
        return MESSAGES["ProbeResponse"](ready={"value": True})

    def node_get_info(self, _request: Message) -> Message:
        """Return the node's name."""
        return MESSAGES["NodeGetInfoResponse"](node_id=self.node_id)

    def node_get_capabilities(self, _request: Message) -> Message:
        """Return that volumes tell their size and whether they work."""
        kinds = (protocol.GET_VOLUME_STATS, protocol.VOLUME_CONDITION)
        return MESSAGES["NodeGetCapabilitiesResponse"](capabilities=[{"rpc": {"type": kind}} for kind in kinds])

    def node_publish_volume(self, request: Message) -> Message:
        """Show a volume at a target path."""
        refuse_capability(request.volume_capability, readonly=request.readonly)
        self.node.publish(request.volume_id, request.target_path, dict(request.volume_context), dict(request.secrets))
        return MESSAGES["NodePublishVolumeResponse"]()

    def node_unpublish_volume(self, request: Message) -> Message:
        """Take a volume away."""
        self.node.unpublish(request.volume_id, request.target_path)
        return MESSAGES["NodeUnpublishVolumeResponse"]()

    def node_get_volume_stats(self, request: Message) -> Message:
        """Return how large a volume is, and whether the mount behind it works."""
        name = self.node.published(request.volume_id, request.volume_path).shared_as
        trouble = self.mounts.trouble(name)
        answer = MESSAGES["NodeGetVolumeStatsResponse"]
        if trouble is not None:
            return answer(volume_condition={"abnormal": True, "message": trouble})
        size, files = self.mounts.size(name)
        return answer(
            usage=[
                {"total": size, "used": size, "unit": protocol.BYTES},
                {"total": files, "used": files, "unit": protocol.INODES},
            ],
            volume_condition={"message": "it answers"},
        )


def serve(driver: Driver, place: Path) -> None:
    """Answer calls until SIGTERM or Ctrl-C; mounts stay. Raises UsageError, SystemFailure."""
    if not driver.node_id or len(driver.node_id.encode()) > _MAX_NODE_ID_BYTES:
        raise UsageError(f"--node-id has to have 1 to {_MAX_NODE_ID_BYTES} bytes", hint="Give it the node's name")
    clear_place(place)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = grpc.server(ThreadPoolExecutor(_THREADS, "csi"), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_handlers(driver, service) for service in protocol.SERVICES])
    try:
        with private():
            server.add_insecure_port(f"unix://{place}")
    except RuntimeError as exc:
        raise SystemFailure(f"{place} cannot be listened at: {exc}") from exc
    server.start()
    threading.Thread(target=_follow_mounts, args=(driver.node,), name="mounts", daemon=True).start()
    log.info("answering as %s for node %s at %s", driver.name, driver.node_id, place)
    ended.wait()
    server.stop(_GRACE_S).wait()
    log.info("ending; mounts stay")


def _follow_mounts(node: Node) -> NoReturn:
    """Bind targets again as mounts change, for as long as the process lasts."""
    changes = select.poll()
    with open("/proc/self/mountinfo", "rb") as table:
        changes.register(table, select.POLLPRI)
        while True:
            try:
                node.bind_again()
            except OSError:
                log.warning("volumes could not be looked at after a mount had changed", exc_info=True)
            changes.poll()


def _handlers(driver: Driver, service: str) -> grpc.GenericRpcHandler:
    calls = {
        call: grpc.unary_unary_rpc_method_handler(
            _answered(call, getattr(driver, _method(call))),
            request_deserializer=MESSAGES[f"{call}Request"].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for call in protocol.SERVICES[service]
    }
    return grpc.method_handlers_generic_handler(f"{protocol.PACKAGE}.{service}", calls)


def _method(call: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in call).lstrip("_")


def _answered(call: str, method: Callable[[Message], Message]) -> Callable[[Message, grpc.ServicerContext], Message]:
    """Return a method that turns errors into codes and logs calls that change something.

    Of a request only its volume and its paths are logged: secrets and attributes, which may hold tokens, never are.
    """

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        try:
            answered = method(request)
        except Exception as exc:
            code, words = answer_to(exc)
            log.log(
                logging.ERROR if code is grpc.StatusCode.INTERNAL else logging.WARNING,
                "%s of %s: %s: %s", call, getattr(request, "volume_id", ""), code.name, words,
            )  # fmt: skip
            log.debug("%s failed", call, exc_info=exc)
            context.abort(code, words)
        if call in _CHANGES:
            log.info("%s of %s at %s", call, request.volume_id, request.target_path)
        return answered

    return answer
