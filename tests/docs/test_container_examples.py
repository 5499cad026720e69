"""The examples for Docker and Kubernetes: they parse, their commands are ours, and what has to belong together does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from fusepkg.cli.application import application
from fusepkg.csi.server import DRIVER_NAME
from fusepkg.csi.volumes import credentials_file, volume_of

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))

KUBERNETES = ("1.31", "1.37")
"""Releases whose schemas the manifests fit: one that is two years old, and one of today."""


def documents(manifest: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(manifest.read_text()) if document]


def pods(manifest: Path) -> Iterator[dict[str, Any]]:
    """The specifications of all pods that a file makes."""
    for document in documents(manifest):
        if document["kind"] == "DaemonSet":
            template = document["spec"]["template"]
            labels = template["metadata"]["labels"]
            assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
            yield template["spec"]
        elif document["kind"] == "Pod":
            yield document["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def commands(container: dict[str, Any]) -> Iterator[list[str]]:
    """The calls of fusepkg that a container makes."""
    if container["image"].startswith("fusepkg") and "command" not in container:
        yield container["args"]
    for probe in (container.get("startupProbe"), container.get("readinessProbe")):
        if probe:
            yield probe["exec"]["command"][1:]
    if "lifecycle" in container:
        yield container["lifecycle"]["preStop"]["exec"]["command"][1:]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_kubernetes_takes_the_manifests(manifest: Path) -> None:
    for document in documents(manifest):
        for release in KUBERNETES:
            kubernetes_validate.validate(document, release, strict=True)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_fit_together(manifest: Path) -> None:
    for pod in pods(manifest):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in containers(pod):
            assert {one["name"] for one in container["volumeMounts"]} <= volumes
            shares = any(one.get("mountPropagation") == "Bidirectional" for one in container["volumeMounts"])
            assert shares == container.get("securityContext", {}).get("privileged", False)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_their_commands_are_ours(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = get_command(application()).commands  # type: ignore[attr-defined]  # it is a group
    found = []
    for pod in pods(manifest):
        for container in containers(pod):
            for one in container.get("env", ()):
                monkeypatch.setenv(one["name"], "value")
            found += list(commands(container))
    served = {command[0] for command in found} & {"mount", "csi", "csi-mounter"}
    assert served == COMMANDS_OF.get(manifest.stem, {"mount"})
    for name, *arguments in found:
        ours[name].make_context(name, arguments)  # raises where an option is unknown or an argument is missing


COMMANDS_OF: dict[str, set[str]] = {
    "csi-driver": {"csi", "csi-mounter"},
    "csi-volume": set(),
    "csi-ephemeral": set(),
}


def test_volumes_are_ones_that_the_driver_takes() -> None:
    """Driver, volumes and pods name each other, and the driver knows every attribute and secret."""
    made = [one for stem in ("csi-driver", "csi-volume", "csi-ephemeral") for one in documents(manifest_of(stem))]
    of_kind = {document["kind"]: document for document in made}
    claim, volume = of_kind["PersistentVolumeClaim"]["spec"], of_kind["PersistentVolume"]["spec"]
    ephemeral = of_kind["Pod"]["spec"]["volumes"][0]["csi"]
    secret = of_kind["Secret"]["stringData"]
    assert of_kind["CSIDriver"]["metadata"]["name"] == volume["csi"]["driver"] == ephemeral["driver"] == DRIVER_NAME
    assert claim["volumeName"] == of_kind["PersistentVolume"]["metadata"]["name"]
    assert volume["csi"]["nodePublishSecretRef"]["name"] == of_kind["Secret"]["metadata"]["name"]
    assert volume_of(volume["csi"]["volumeAttributes"], secret).package == "bucket/stars:v1"
    assert credentials_file(secret)
    assert volume_of(ephemeral["volumeAttributes"], {}).arguments() == ["--follow=production", "--engine=fuse"]
    assert volume["csi"]["readOnly"]
    assert ephemeral["readOnly"]


def test_the_driver_and_what_mounts_meet() -> None:
    """The mounter outlives updates of the driver; both see the same directories at the same places."""
    mounter, driver = pods(manifest_of("csi-driver"))
    (updated,) = [
        one["spec"]["updateStrategy"]["type"]
        for one in documents(manifest_of("csi-driver"))
        if one["metadata"]["name"] == "fusepkg-mounter"
    ]
    assert updated == "OnDelete"
    run = [one for pod in (mounter, driver) for one in pod["volumes"] if one["name"] == "run"]
    seen = [one for pod in (mounter, driver) for one in pod["containers"][0]["volumeMounts"] if one["name"] == "run"]
    assert run[0] == run[1]
    assert seen[0] == seen[1]
    assert seen[0]["mountPropagation"] == "Bidirectional"
    assert [pod["automountServiceAccountToken"] for pod in (mounter, driver)] == [False, False]
    registrar = driver["containers"][1]["args"]
    assert f"--kubelet-registration-path=/var/lib/kubelet/plugins/{DRIVER_NAME}/csi.sock" in registrar


def manifest_of(stem: str) -> Path:
    return EXAMPLES / "kubernetes" / f"{stem}.yaml"


def test_the_image_has_what_a_mount_needs() -> None:
    lines = (EXAMPLES / "container" / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert instructions[0][0] == "FROM"
    assert {name for name, _ in instructions} <= {"FROM", "RUN", "ARG", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}
    assert any("fuse3" in rest for name, rest in instructions if name == "RUN")
    assert ["ENTRYPOINT", '["fusepkg"]'] in instructions
