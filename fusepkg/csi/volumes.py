"""What a volume is asked to be: attributes of a persistent volume or of a pod, secrets, a capability."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from fusepkg.csi import protocol
from fusepkg.errors import UsageError
from fusepkg.model.reference import LOCAL_BUCKET, parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.csi.libraries import Message

_OPTIONS = frozenset(
    {
        "as", "endpoint_url", "engine", "follow", "prefetch", "prefetch_rate", "region", "retry_timeout", "times",
        "where",
    }
)  # fmt: skip
"""Attributes with a value: options of ``fusepkg mount``, with underscores as in /etc/fstab."""

_FLAGS = frozenset({"no_sign_request", "xattrs"})
"""Attributes that are ``true`` or ``false``."""

_OF_KUBERNETES = "csi.storage.k8s.io/"
"""How the names begin that Kubernetes adds by itself: the pod, its service account, whether the volume is ephemeral."""

_EPHEMERAL = f"{_OF_KUBERNETES}ephemeral"

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""The keys of a secret; the last may be missing."""

_HARMLESS_FLAGS = frozenset({"ro", "noatime", "nodev", "nosuid"})
"""Mount options of a persistent volume that ask for what is so anyway."""


class Volume(msgspec.Struct, frozen=True):
    """A package and how it is mounted: options of ``fusepkg mount`` by attribute, in order of their names."""

    package: str
    options: tuple[tuple[str, str], ...] = ()

    def shared_as(self, volume_id: str, *, has_secrets: bool) -> str:
        """Return the name of the mount that this volume is a view of: equal for volumes that may share one.

        With secrets only volumes of the same id do: one pod's secret must not open a package for another pod.
        """
        parts = [self.package, *(f"{name}={value}" for name, value in self.options), *([volume_id] * has_secrets)]
        return hashlib.sha256("\0".join((str(len(parts)), *parts)).encode()).hexdigest()[:24]

    def arguments(self) -> list[str]:
        """Return the options of ``fusepkg mount``."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self.options if name not in _FLAGS]
        words += [f"--{name.replace('_', '-')}" for name, value in self.options if name in _FLAGS and value == "true"]
        # With the engine erofs a switch is another file system, and pods would go on seeing the one before.
        return [*words, "--engine=fuse"] if "follow" in dict(self.options) else words


def volume_of(attributes: Mapping[str, str], secrets: Mapping[str, str]) -> Volume:
    """Return what attributes ask for. Raises UsageError, which names the attribute that is wrong."""
    package = attributes.get("package", "")
    if not package:
        raise UsageError("the attribute package is missing", hint="volumeAttributes: {package: bucket/name:tag}")
    reference = parse_reference(package)
    if reference.bucket.scheme not in ("s3", LOCAL_BUCKET):
        raise UsageError(
            f"the attribute package names {reference.bucket.scheme} on the node", hint="Name a package in a bucket"
        )
    options = {name: text for name, text in attributes.items() if name != "package" and not _is_of_kubernetes(name)}
    for name, text in options.items():
        if name not in _OPTIONS | _FLAGS:
            known = ", ".join(sorted({"package"} | _OPTIONS | _FLAGS))
            raise UsageError(f"there is no attribute {name}", hint=f"There are {known}")
        if name in _FLAGS and text not in ("true", "false"):
            raise UsageError(f"the attribute {name} is {text!r}", hint='Write "true" or "false"')
        if "\0" in text or "\n" in text:
            raise UsageError(f"the attribute {name} has more than one line", hint="Write one line")
    is_public = options.get("no_sign_request") == "true"
    if "follow" in options and options.get("engine", "fuse") != "fuse":
        raise UsageError("the attribute engine must be fuse for a volume that follows a tag", hint="Leave it out")
    if is_public and secrets:
        raise UsageError(
            "no_sign_request asks without credentials, and there is a secret", hint="Leave out one of them"
        )
    if "endpoint_url" in options and attributes.get(_EPHEMERAL) == "true" and not secrets and not is_public:
        raise UsageError(
            "the attribute endpoint_url would have the node's signed requests sent wherever a pod says",
            hint="Give the volume a secret (nodePublishSecretRef), or set no_sign_request",
        )
    return Volume(package, tuple(sorted(options.items())))


def _is_of_kubernetes(name: str) -> bool:
    return name.startswith(_OF_KUBERNETES)


def credentials_file(secrets: Mapping[str, str]) -> str:
    """Return the text of a file of AWS credentials. Raises UsageError, which names a key and never repeats a value."""
    if unknown := sorted(set(secrets) - set(SECRETS)):
        raise UsageError(f"the secret has the unknown key {unknown[0]}", hint=f"Its keys are {', '.join(SECRETS)}")
    for name in SECRETS[:2]:
        if name not in secrets:
            raise UsageError(f"the secret lacks the key {name}", hint=f"Its keys are {', '.join(SECRETS)}")
    for name, value in secrets.items():
        if not re.fullmatch(r"[\x21-\x7e]+", value):
            raise UsageError(f"the secret's {name} is not one word", hint="A line break at its end may be too much")
    return "\n".join(("[default]", *(f"{name.lower()} = {secrets[name]}" for name in SECRETS if name in secrets), ""))


def refuse_capability(capability: Message, *, readonly: bool) -> None:
    """Raise UsageError unless a read-only directory will do for what is asked."""
    mode = capability.access_mode.mode
    if capability.HasField("block"):
        raise UsageError("a package is a directory, not a block device", hint="Write volumeMode: Filesystem")
    if not capability.HasField("mount") or mode not in protocol.MODES:
        raise UsageError("volume_capability lacks its access type or access mode")
    if mode not in protocol.READER_MODES and not readonly:
        raise UsageError(
            "a version of a package never changes, and the volume is asked for to be written to",
            hint="Write accessModes: [ReadOnlyMany], or readOnly: true in the pod",
        )
    if capability.mount.fs_type not in ("", "fusepkg"):
        raise UsageError(f"there is no file system {capability.mount.fs_type!r} here", hint="Leave out fsType")
    for flag in capability.mount.mount_flags:
        if flag not in _HARMLESS_FLAGS:
            raise UsageError("mountOptions has an option that is not known", hint="Options belong in volumeAttributes")
