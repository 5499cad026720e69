"""Mounts that cannot be made or ended, and their daemons."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class MountError(FusepkgError):
    """A mount cannot be made or ended."""

    code = "mount"
    exit_code = 7


class MountpointUnfit(MountError):
    """The mountpoint is missing, not an empty directory, or mounted already."""

    code = "mount.mountpoint_unfit"


class MountpointBusy(MountError):
    """A program still uses the mount."""

    code = "mount.busy"


class NotMounted(MountError):
    """No mount of fusepkg is there."""

    code = "mount.not_mounted"


class EngineUnavailable(MountError):
    """The engine cannot run here: no /dev/fuse, no root, an older kernel."""

    code = "mount.engine_unavailable"


class MountFailed(MountError):
    """The kernel or the daemon refused the mount for another reason."""

    code = "mount.failed"


class SwitchUnderWay(MountError):
    """A mount is being switched to another version already."""

    code = "mount.switch_under_way"


class ControlError(FusepkgError):
    """The daemon of a mount does not answer as expected."""

    code = "control"
    exit_code = 12


class DaemonNotRunning(ControlError):
    """The mount's daemon is gone."""

    code = "control.daemon_not_running"


class ProtocolMismatch(ControlError):
    """The daemon speaks another version of the control protocol."""

    code = "control.protocol_mismatch"
