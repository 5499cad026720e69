"""csi and csi-mounter: the driver by which Kubernetes mounts packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(csi)
    app.command("csi-mounter")(csi_mounter)


def csi(
    endpoint: Annotated[
        str, typer.Option(metavar="unix://SOCKET", help="Where Kubernetes asks.", envvar="CSI_ENDPOINT")
    ],
    node_id: Annotated[str, typer.Option(metavar="NAME", help="The node's name.", envvar="NODE_ID")],
    mounter: Annotated[
        str | None,
        typer.Option(metavar="SOCKET", help="Have mounts made by a `csi-mounter`; default: by this process."),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For mounts and records; default: csi in the runtime directory of mounts."),
    ] = None,
    driver_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: csi.fusepkg.github.io, as in the manifests.")
    ] = None,
) -> None:
    """Answer the node calls of Kubernetes (Container Storage Interface): volumes of pods are packages.

    Mounts stay when it ends, and the next one goes on with them.
    """
    from fusepkg.csi import mounter as mounting  # here: only some users have the libraries
    from fusepkg.csi import server
    from fusepkg.csi.listening import unix_path
    from fusepkg.csi.mounts import SharedMounts
    from fusepkg.csi.node import Node
    from fusepkg.csi.published import PublishedVolumes
    from fusepkg.daemon.logs import log_to_terminal
    from fusepkg.daemon.runtime import runtime_directory

    place = unix_path(endpoint, "--endpoint")
    run = mounting.run_here if mounter is None else mounting.run_at(unix_path(mounter, "--mounter"))
    log_to_terminal(debug=False)
    state = state_dir.absolute() if state_dir is not None else runtime_directory() / "csi"
    mounts = SharedMounts(state, run)
    node = Node(mounts, PublishedVolumes(state / "published"))
    node.end_unused()
    server.serve(server.Driver(node_id, driver_name or server.DRIVER_NAME, node, mounts), place)


def csi_mounter(
    listen: Annotated[str, typer.Option(metavar="SOCKET", help="Where drivers ask.")],
) -> None:
    """Make mounts for `fusepkg csi --mounter`: they live as long as this process's container, not the driver's."""
    from fusepkg.csi.listening import unix_path
    from fusepkg.csi.mounter import serve
    from fusepkg.daemon.logs import log_to_terminal

    place = unix_path(listen, "--listen")
    log_to_terminal(debug=False)
    serve(place)
