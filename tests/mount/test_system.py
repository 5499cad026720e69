"""Mounts as the system makes them: mount(8), systemd, and all ended at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from fusepkg.daemon.records import read_records
from tests.mount.mounting import end, ended

if TYPE_CHECKING:
    from tests.command import Fusepkg
    from tests.mount.places import Bucket, Place

pytestmark = pytest.mark.fuse

HELPER = Path(sys.executable).with_name("mount.fusepkg")

UNITS = Path(__file__).parents[2] / "docs" / "examples" / "systemd"


@pytest.fixture
def local(folder: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The packages in a directory."""
    for name, value in folder.settings.items():
        monkeypatch.setenv(name, value)
    return folder


def mount8(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Call the helper as mount(8) does: without a home or a path of the user's."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("FUSEPKG_", "XDG_", "AWS_"))}
    command = [HELPER, *map(str, arguments)]
    return subprocess.run(command, env=kept | {"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)


def test_mount_8_mounts_and_umount_8_ends(local: Place, tmp_path: Path) -> None:
    """A line of fstab mounts a version through mount(8), and umount(8) ends it."""
    place = tmp_path / "m"
    place.mkdir()
    done = mount8(local.reference("small:v1"), place, "-n", "-o", "ro,_netdev,nofail,x-systemd.automount,engine=fuse")
    assert done.returncode == 0, done.stderr
    assert os.listdir(place)
    (mount,) = [record for record in read_records() if record.mountpoint == str(place)]
    subprocess.run(["umount", place], check=True)
    assert ended(mount.pid)


def test_mount_8_tells_wrong_options_from_failed_mounts(local: Place, tmp_path: Path) -> None:
    """mount(8) is answered with 1 for what cannot be asked, with 32 for a mount that failed."""
    place = tmp_path / "m"
    place.mkdir()
    wrong = mount8(local.reference("small:v1"), place, "-o", "rw")
    assert (wrong.returncode, "a version never changes" in wrong.stderr) == (1, True)
    gone = mount8(f"{local.reference('small:v1').rpartition(':')[0]}:nowhere", place, "-o", "retry=30")
    assert (gone.returncode, "nowhere" in gone.stderr) == (32, True)  # at once: waiting makes no tag
    assert not os.path.ismount(place)


def test_a_mount_in_the_foreground_says_when_it_is_there(local: Place, tmp_path: Path) -> None:
    """systemd is told READY once the directory can be read, and not before."""
    place = tmp_path / "m"
    place.mkdir()
    with ExitStack() as stack:
        told = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        told.bind(b"\0fusepkg-test-" + os.urandom(8).hex().encode())
        told.settimeout(60)
        name = told.getsockname()[1:].decode()
        process = subprocess.Popen(
            [sys.executable, "-m", "fusepkg", "mount", "-f", local.reference("small:v1"), place],
            env=os.environ | {"NOTIFY_SOCKET": f"@{name}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        assert told.recv(4096).startswith(b"READY=1\nSTATUS=")
        assert os.listdir(place)


AT_BOOT = """
import ctypes, os, socket, subprocess, sys, threading
port, command = int(sys.argv[1]), sys.argv[2:]
there = os.open("/proc/self/ns/net", os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x40000000) == 0  # CLONE_NEWNET: a network of its own, in which nothing is up yet
mounting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
print(next(line for line in mounting.stderr if "trying again" in line), end="", flush=True)
assert sys.stdin.readline() == "up\\n"
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listening = socket.create_server(("127.0.0.1", port))
assert libc.setns(there, 0) == 0  # what is connected from here on is in the machine's network

def carry(one, other):
    while data := one.recv(1 << 16):
        other.sendall(data)
    other.shutdown(socket.SHUT_WR)

def forward():
    while True:
        one = listening.accept()[0]
        other = socket.create_connection(("127.0.0.1", port))
        for pair in ((one, other), (other, one)):
            threading.Thread(target=carry, args=pair, daemon=True).start()

threading.Thread(target=forward, daemon=True).start()
print(mounting.wait(), flush=True)
sys.stdin.readline()
os._exit(0)
"""


@pytest.mark.s3
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")
def test_a_mount_at_boot_waits_for_the_network(bucket: Bucket, tmp_path: Path) -> None:
    """A line of fstab mounts though there is no network yet: the bucket is tried again until it answers."""
    bucket.proxy.heal()
    place = tmp_path / "m"
    place.mkdir()
    kept = {name: value for name, value in os.environ.items() if name.startswith(("FUSEPKG_", "XDG_", "AWS_"))}
    environment = kept | bucket.settings | {"PATH": "/usr/sbin:/usr/bin:/bin"}
    port = str(urlsplit(bucket.settings["AWS_ENDPOINT_URL_S3"]).port)
    asked = [HELPER, bucket.reference("small:v1"), place, "-o", "_netdev,engine=fuse,retry=600"]
    program = [sys.executable, "-c", AT_BOOT, port, *map(str, asked)]
    with subprocess.Popen(program, env=environment, stdin=PIPE, stdout=PIPE, text=True) as machine:
        assert machine.stdin is not None
        assert machine.stdout is not None
        try:
            assert "trying again for 600 s" in machine.stdout.readline()
            assert not os.path.ismount(place)
            machine.stdin.write("up\n")
            machine.stdin.flush()
            assert machine.stdout.readline().startswith("Mounted")
            assert machine.stdout.readline() == "0\n"
            assert (place / "README.md").read_bytes() == b"# A dataset\n"
        finally:
            end(place)
            machine.kill()


END_ALL = """
import os, subprocess, sys
reference, *places = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)  # no record of another mount is there

def fusepkg(*words):
    return subprocess.run([sys.executable, "-m", "fusepkg", *words], capture_output=True, text=True)

for place in places:
    done = fusepkg("mount", reference, place)
    assert done.returncode == 0, done.stderr
held = os.open(places[0], os.O_RDONLY)
busy = fusepkg("umount", "--all")
assert busy.returncode != 0 and places[0] in busy.stderr, busy
assert [os.path.ismount(place) for place in places] == [True, False]
os.close(held)
done = fusepkg("umount", "--all")
assert f"Unmounted {places[0]}" in done.stderr, done
assert not os.path.ismount(places[0])
done = fusepkg("umount", "--all")
assert (done.returncode, done.stderr) == (0, ""), done
"""


def test_all_mounts_end_at_once(local: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    """umount --all ends every mount of the user; one in use is named, and the others end."""
    refused = fusepkg("umount", check=False)
    assert (refused.returncode, "one directory, or --all" in refused.stderr) == (2, True)
    if os.geteuid():
        pytest.skip("only root can keep the mounts of other tests out of sight")
    places = [tmp_path / name for name in ("a", "b")]
    for place in places:
        place.mkdir()
    program = [sys.executable, "-c", END_ALL, local.reference("small:v1"), *places]
    done = subprocess.run(["unshare", "--mount", *program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_units_in_the_documents_are_valid(tmp_path: Path) -> None:
    """systemd accepts the units that the guide copies."""
    done = subprocess.run(["systemd-analyze", "--version"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("systemd-analyze is not on this machine")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/usr/local/bin/fusepkg", str(Path(sys.executable).with_name("fusepkg")))
        (tmp_path / unit.name).write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "fusepkg@data.service", tmp_path / "fusepkg.target"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
