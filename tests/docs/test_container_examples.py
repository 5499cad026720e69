"""The examples for Docker and Kubernetes: they parse, their commands are ours, and what has to belong together does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from fusepkg.cli.application import application

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))

CONTAINER_KEYS = {
    "name", "image", "command", "args", "env", "volumeMounts", "securityContext", "lifecycle", "startupProbe",
    "readinessProbe", "restartPolicy",
}  # fmt: skip
POD_KEYS = {"initContainers", "containers", "volumes", "restartPolicy"}


def pods(manifest: Path) -> Iterator[dict[str, Any]]:
    """The specifications of all pods that a file makes."""
    for document in yaml.safe_load_all(manifest.read_text()):
        kind = (document["apiVersion"], document["kind"])
        assert kind in (("v1", "Pod"), ("apps/v1", "DaemonSet"))
        if kind[1] == "DaemonSet":
            template = document["spec"]["template"]
            labels = template["metadata"]["labels"]
            assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
            yield template["spec"]
        else:
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
def test_manifests_fit_together(manifest: Path) -> None:
    for pod in pods(manifest):
        assert set(pod) <= POD_KEYS
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in containers(pod):
            assert set(container) <= CONTAINER_KEYS
            assert {one["name"] for one in container["volumeMounts"]} <= volumes
            shares = any(one.get("mountPropagation") == "Bidirectional" for one in container["volumeMounts"])
            assert shares == container.get("securityContext", {}).get("privileged", False)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_their_commands_are_ours(manifest: Path) -> None:
    ours = get_command(application()).commands  # type: ignore[attr-defined]  # it is a group
    found = [command for pod in pods(manifest) for container in containers(pod) for command in commands(container)]
    assert [command[0] for command in found].count("mount") == 1
    for name, *arguments in found:
        ours[name].make_context(name, arguments)  # raises where an option is unknown or an argument is missing


def test_the_image_has_what_a_mount_needs() -> None:
    lines = (EXAMPLES / "container" / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert instructions[0][0] == "FROM"
    assert {name for name, _ in instructions} <= {"FROM", "RUN", "ARG", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}
    assert any("fuse3" in rest for name, rest in instructions if name == "RUN")
    assert ["ENTRYPOINT", '["fusepkg"]'] in instructions
