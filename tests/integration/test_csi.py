"""The driver for Kubernetes, asked over its socket: real mounts, calls twice, in the wrong order, too late."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fusepkg.engines import kernel
from tests.command import Fusepkg, run_fusepkg
from tests.integration.csi_driver import READER, Client, Surroundings, clear, driver, environment, refusal, running
from tests.mount.test_switching import wait_until
from tests.rgw import Gateway, aws_environment

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0 or not kernel.may_mount(), reason="the CSI driver needs root and mount(2)"),
]


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """Three versions in the embedded registry, and where drivers work."""
    root = tmp_path_factory.mktemp("csi")
    made = Surroundings(root, environment(root))
    for tag in ("v1", "v2"):
        (folder := root / tag).mkdir()
        (folder / "same.txt").write_text("the same\n")
        (folder / "version.txt").write_text(f"{tag}\n")
        run_fusepkg("push", folder, f"local/stars:{tag}", env=made.environment)
    run_fusepkg("tag", "local/stars:v1", "production", env=made.environment)
    yield made
    clear(made)


@pytest.fixture(scope="module")
def client(around: Surroundings) -> Iterator[Client]:
    with driver(around) as client:
        yield client


def test_what_the_driver_says_of_itself(client: Client) -> None:
    info = client.call("GetPluginInfo", "Identity")
    assert info.name == "csi.fusepkg.github.io"
    assert info.vendor_version
    assert client.call("Probe", "Identity").ready.value
    assert client.call("GetPluginCapabilities", "Identity").SerializeToString() == b""
    assert client.call("NodeGetInfo").node_id == "node-1"
    assert [one.rpc.type for one in client.call("NodeGetCapabilities").capabilities] == [2, 4]
    assert refusal(client.call, "NodeStageVolume")[0] == "UNIMPLEMENTED"
    assert refusal(client.call, "CreateVolume", "Controller")[0] == "UNIMPLEMENTED"


def test_a_volume_from_its_first_call_to_its_last(client: Client, around: Surroundings) -> None:
    first, second = around.target("first"), around.target("second")
    second.mkdir()  # what is there already is taken
    for _ in range(2):
        client.publish("pv-1", first, "local/stars:v1")
    client.publish("csi-2", second, "local/stars:v1", **{"csi.storage.k8s.io/ephemeral": "true"})
    assert (first / "version.txt").read_text() == (second / "version.txt").read_text() == "v1\n"
    assert first.stat().st_dev == second.stat().st_dev
    assert len(around.mountpoints()) == 1  # one process and one cache of pages for all pods
    with pytest.raises(OSError, match="Read-only"):
        (first / "new").touch()
    stats = client.call("NodeGetVolumeStats", volume_id="pv-1", volume_path=str(first))
    assert [(one.total, one.used, one.unit) for one in stats.usage] == [(12, 12, 1), (2, 2, 2)]
    assert not stats.volume_condition.abnormal

    for volume_id, package, more in (
        ("pv-1", "local/stars:v2", {}),
        ("pv-1", "local/stars:v1", {"times": "now"}),
        ("pv-9", "local/stars:v1", {}),
    ):
        code, words = refusal(client.publish, volume_id, first, package, **more)
        assert (code, "pv-1 (local/stars:v1)" in words) == ("ALREADY_EXISTS", True)
    assert refusal(client.unpublish, "pv-9", first)[0] == "NOT_FOUND"

    for _ in range(2):
        client.unpublish("pv-1", first)
    assert not first.exists()
    assert refusal(client.call, "NodeGetVolumeStats", volume_id="pv-1", volume_path=str(first))[0] == "NOT_FOUND"
    assert (second / "same.txt").read_text() == "the same\n"
    assert {place for place, _ in around.mounted()} == {str(second), *around.mountpoints()}  # it is still shared
    client.unpublish("csi-2", second)
    assert around.mounted() == []
    assert not second.exists()
    assert [*(around.state / "published").iterdir(), *(around.state / "mounts").iterdir()] == []


def test_calls_that_make_no_sense(client: Client, around: Surroundings) -> None:
    target = around.target("bad")
    good = {"volume_id": "a", "target_path": str(target), "volume_capability": READER}
    package = {"package": "local/stars:v1"}
    (file := around.target("file")).write_text("mine")
    (full := around.target("full")).mkdir()
    (full / "mine").touch()
    for changed, code, named in (
        ({"volume_context": {}}, "INVALID_ARGUMENT", "package is missing"),
        ({"volume_context": package | {"Tag": "v1"}}, "INVALID_ARGUMENT", "no attribute Tag"),
        ({"volume_context": package, "volume_id": ""}, "INVALID_ARGUMENT", "volume_id"),
        ({"volume_context": package, "target_path": ""}, "INVALID_ARGUMENT", "absolute path"),
        ({"volume_context": package, "target_path": "pods/a"}, "INVALID_ARGUMENT", "absolute path"),
        ({"volume_context": package, "target_path": f"{target}/../x"}, "INVALID_ARGUMENT", "absolute path"),
        ({"volume_context": package, "volume_capability": {}}, "INVALID_ARGUMENT", "volume_capability"),
        (
            {"volume_context": package, "volume_capability": {"mount": {}, "access_mode": {"mode": 1}}},
            "INVALID_ARGUMENT",
            "readOnly: true",
        ),
        ({"volume_context": package, "target_path": str(file)}, "FAILED_PRECONDITION", "not a directory"),
        ({"volume_context": package, "target_path": str(full)}, "FAILED_PRECONDITION", "not empty"),
    ):
        answered, words = refusal(client.call, "NodePublishVolume", **(good | changed))
        assert (answered, named in words) == (code, True), words
    assert file.read_text() == "mine"
    client.unpublish("never", target)  # of a volume that never was
    assert refusal(client.unpublish, "never", file)[0] == "FAILED_PRECONDITION"
    assert refusal(client.unpublish, "", target)[0] == "INVALID_ARGUMENT"


def test_what_cannot_be_mounted_leaves_nothing(client: Client, around: Surroundings) -> None:
    target = around.target("missing")
    code, words = refusal(client.publish, "a", target, "local/nothing:v1")
    assert (code, "nothing" in words) == ("NOT_FOUND", True)
    assert not target.exists()
    assert [*(around.state / "published").iterdir(), *(around.state / "mounts").iterdir()] == []


def test_a_volume_that_follows_a_tag_changes_under_its_pod(
    client: Client, around: Surroundings, fusepkg: Fusepkg
) -> None:
    target = around.target("follows")
    client.publish("f", target, "local/stars", follow="production")
    (shared,) = around.mountpoints()
    assert (target / "version.txt").read_text() == "v1\n"
    with (target / "version.txt").open() as opened:
        fusepkg("switch", shared, "v2", env=around.environment)  # as the mount does by itself when the tag moves
        assert (target / "version.txt").read_text() == "v2\n"
        assert opened.read() == "v1\n"
    client.unpublish("f", target)


@pytest.mark.s3
def test_secrets_open_one_volume_and_are_written_nowhere_else(
    client: Client, around: Surroundings, s3: Gateway, fusepkg: Fusepkg
) -> None:
    bucket, secret = s3.bucket(), s3.owner.secret_key
    fusepkg("push", around.root / "v1", f"{bucket}/stars:v1")
    mine, other = around.target("mine"), around.target("other")
    owner = aws_environment(s3.endpoint, s3.owner)
    keys = {name: owner[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    wrong = keys | {"AWS_SECRET_ACCESS_KEY": "HIDDEN"}
    package, endpoint = f"{bucket}/stars:v1", {"endpoint_url": s3.endpoint}

    client.publish("a", mine, package, keys, **endpoint)
    assert (mine / "version.txt").read_text() == "v1\n"
    assert refusal(client.publish, "b", other, package, **endpoint)[0] == "UNAUTHENTICATED"
    assert refusal(client.publish, "b", other, package, wrong, **endpoint)[0] == "PERMISSION_DENIED"
    assert refusal(client.publish, "b", other, package, {"key": "HIDDEN"}, **endpoint)[0] == "INVALID_ARGUMENT"

    (file,) = (around.state / "secrets").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    written = [path for path in around.root.rglob("*") if path.is_file() and not path.is_relative_to(mine)]
    assert [path for path in written if secret.encode() in path.read_bytes()] == [file]
    assert [path for path in written if b"HIDDEN" in path.read_bytes()] == []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            shown = (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
        except OSError:
            continue
        if str(around.state).encode() in shown:
            assert secret.encode() not in shown
    client.publish("a", mine, package, wrong, **endpoint)  # new secrets reach the mount that is there
    assert "HIDDEN" in file.read_text()
    client.unpublish("a", mine)
    assert [*(around.state / "secrets").iterdir()] == []


IN_A_CONTAINER = (
    "unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount", "--propagation", "unchanged", "sh", "-ec",
    'mount --make-private /proc; mount -t proc proc /proc; exec "$@"', "sh",
)  # fmt: skip
"""The mounter's container: its own processes and mounts, of which those in the state directory are seen outside."""


@pytest.fixture
def in_containers(around: Surroundings, tmp_path: Path) -> Iterator[Surroundings]:
    """Where a driver works whose mounts are made by a mounter in another container."""
    state, pods = tmp_path / "state", tmp_path / "pods"
    for place in (state, pods):
        place.mkdir()
        subprocess.run(["mount", "--bind", place, place], check=True)
        subprocess.run(["mount", "--make-shared", place], check=True)
    made = Surroundings(tmp_path, around.environment, ("--mounter", str(state / "mounter.sock")))
    yield made
    clear(made)
    for place in (state, pods):
        subprocess.run(["umount", "-l", place], check=True)


class Pod:
    """A container that has a volume, with ``HostToContainer``."""

    _PROGRAM = 'mount --rbind "$0" "$1"; mount --make-rslave "$1"; while read name; do cat "$1/$name" || echo; done'

    def __init__(self, own: Surroundings, target: Path) -> None:
        (view := own.root / "view").mkdir()
        command = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", self._PROGRAM, target, view]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, name: str) -> str:
        """Return the line in a file, as programs in there see it; "" where there is an error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def shows(self, version: str) -> bool:
        """Return whether it has that version."""
        return self.read("version.txt") == version

    def end(self) -> None:
        """End it, and all its mounts with it."""
        self._process.communicate()


def test_a_switched_volume_changes_in_its_pod(in_containers: Surroundings, fusepkg: Fusepkg) -> None:
    """A switch by hand reaches the pods at once, with the engine erofs too, where it mounts another file system."""
    own = in_containers
    target = own.target("a")
    listen = ["csi-mounter", "--listen", str(own.state / "mounter.sock")]
    with running(listen, own, IN_A_CONTAINER), driver(own) as client:
        client.publish("a", target, "local/stars:v1", engine="erofs")
        pod = Pod(own, target)
        try:
            assert pod.read("version.txt") == "v1"
            (shared,) = own.mountpoints()
            for version in ("v2", "v1"):
                fusepkg("switch", shared, version, env=own.environment)
                wait_until(partial(pod.shows, version), "the driver has bound it")
        finally:
            pod.end()
        client.unpublish("a", target)
        assert own.mounted() == []


def test_mounts_survive_the_driver_and_are_made_again_after_the_mounter(in_containers: Surroundings) -> None:
    """kill -9 of a driver: pods read on. Killed with the container of the mounter, mounts are made at the next call."""
    own = in_containers
    target, second = own.target("a"), own.target("b")
    listen = ["csi-mounter", "--listen", str(own.state / "mounter.sock")]
    fuse = {"engine": "fuse"}  # whose kernel tells at once that a process is dead
    with running(listen, own, IN_A_CONTAINER) as container:
        with driver(own) as killed:
            killed.publish("a", target, "local/stars:v1", **fuse)
            with (target / "same.txt").open() as opened:
                killed.process.kill()
                killed.process.wait()
                assert opened.read() == "the same\n"
        with driver(own) as client:
            client.publish("a", target, "local/stars:v1", **fuse)
            assert refusal(client.publish, "a", target, "local/stars:v2", **fuse)[0] == "ALREADY_EXISTS"
            client.publish("b", second, "local/stars:v1", **fuse)
            assert len(own.mountpoints()) == 1
            client.unpublish("b", second)
            pod = Pod(own, target)
            assert pod.read("version.txt") == "v1"

            os.kill(container.pid, signal.SIGKILL)
            wait_until(lambda: not readable(target / "same.txt"), "all processes of the container are dead")
            assert refusal(client.publish, "a", target, "local/stars:v1", **fuse)[0] == "UNAVAILABLE"
            stats = client.call("NodeGetVolumeStats", volume_id="a", volume_path=str(target))
            assert stats.volume_condition.abnormal
            with running(listen, own, IN_A_CONTAINER):
                client.publish("a", target, "local/stars:v1", **fuse)
                assert (target / "same.txt").read_text() == "the same\n"
                assert pod.read("same.txt") == "the same"
                pod.end()
                client.unpublish("a", target)
                assert own.mounted() == []


def readable(path: Path) -> bool:
    """Whether bytes can be had that the kernel does not have already."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            return bool(os.read(descriptor, 1))
        finally:
            os.close(descriptor)
    except OSError:
        return False


def test_one_driver_at_a_socket(client: Client, around: Surroundings, fusepkg: Fusepkg) -> None:
    options = ("csi", "--node-id", "n", "--state-dir", around.state, "--endpoint")
    done = fusepkg(*options, f"unix://{around.root / 'csi.sock'}", check=False, env=around.environment)
    assert done.returncode == 14
    assert "another process listens" in done.stderr
    done = fusepkg(*options, f"unix://{around.root / ('long' * 30)}", check=False, env=around.environment)
    assert done.returncode == 2
    assert "longer than 107 bytes" in done.stderr
    assert client.call("Probe", "Identity").ready.value
