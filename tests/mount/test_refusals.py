"""What cannot be mounted: each has its exit code, one clear message, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon import records
from fusepkg.engines import kernel, mounting
from fusepkg.errors import EngineUnavailable
from fusepkg.registry.layout import manifest_key
from tests.command import run_fusepkg
from tests.mount.mounting import mounted
from tests.mount.places import Bucket, surroundings
from tests.plugins.leftovers import MARK, mounts_below, processes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mount.places import Folder, Place

    Refused = Callable[..., str]

pytestmark = pytest.mark.fuse

PACKAGE_ERROR, DENIED, REMOTE, MOUNT_ERROR, INVALID = 3, 4, 5, 7, 9
"""Exit codes, as fusepkg.errors documents them."""


def check_refusal(done: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """The exit code, and one message with these words: what happened on the first line, what to do on the second."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Error: "), done.stderr
    assert 1 <= len(lines) <= 2, done.stderr
    assert all(line.startswith("  ") for line in lines[1:]), done.stderr
    for word in words:
        assert word in done.stderr, (word, done.stderr)
    return done.stderr


def check_nothing_left(root: Path) -> None:
    """No mount, no daemon, no record, no index half built."""
    assert mounts_below(root.parent) == []
    assert [record for record in records.read_records() if Path(record.mountpoint).is_relative_to(root.parent)] == []
    assert [process for process in processes_of(os.environ[MARK]) if str(root) in process.command] == []
    cache = Path(os.environ["FUSEPKG_CACHE_DIR"])
    assert [path for path in cache.rglob("*") if path.name.startswith((".building", "manifest-"))] == []


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """``refused(reference, code, "word", ...)``: mounting it is refused so, and leaves nothing behind."""
    root = tmp_path / "m"

    def refuse(reference: str, code: int, *words: str, at: Path = root, engine: str = "auto") -> str:
        root.mkdir(exist_ok=True)
        done = run_fusepkg("mount", "--engine", engine, reference, at, check=False)
        said = check_refusal(done, code, *words)
        check_nothing_left(root)
        return said

    return refuse


# --- names ---


def test_names_that_are_not_there(place: Place, refused: Refused) -> None:
    """An unknown package, tag or hash is named, with what there is instead."""
    refused(place.reference("small:v9"), PACKAGE_ERROR, "has no tag 'v9'", "It has", "v1", "v2")
    refused(place.reference("smal:v1"), PACKAGE_ERROR, "has no package 'smal'", "Near names: small")
    refused(place.reference("small@abcdef"), PACKAGE_ERROR, "abcdef", "fusepkg log")
    refused(place.reference(f"small@{'ab' * 32}"), PACKAGE_ERROR, "ab" * 32)


def test_an_ambiguous_hash(place: Place, refused: Refused) -> None:
    """A short hash that several versions share is refused with the versions it could be."""
    for last in "12":
        place.put_registry(manifest_key("ambiguous", "feed" * 15 + f"000{last}"), b"")
    refused(place.reference("ambiguous@feedfeed"), PACKAGE_ERROR, "feedfeed0001", "feedfeed0002", "digits")


def test_an_unknown_bucket(place: Place, refused: Refused, tmp_path: Path) -> None:
    """A bucket that is not there is named."""
    if isinstance(place, Bucket):
        refused("no-such-bucket/small:v1", PACKAGE_ERROR, "no-such-bucket")
    else:
        refused(f"file://{tmp_path}/no-such/small:v1", PACKAGE_ERROR, f"{tmp_path}/no-such")


def test_references_that_are_none(refused: Refused) -> None:
    """A reference that cannot be read is refused with the part that is wrong."""
    for reference, word in (("small", "small"), ("local/", "local/"), ("local/a:b c", "b c"), ("local/a@xyz", "xyz"),
                            ("ftp://a/b", "ftp")):  # fmt: skip
        refused(reference, 2, word)


# --- the way to the bucket ---

NOT_S3 = pytest.mark.parametrize("place", [pytest.param("s3", marks=pytest.mark.s3)], indirect=True)


@NOT_S3
def test_without_credentials(place: Place, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing and wrong credentials are told apart, each with what to do."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKNOBODY")
    refused(place.reference("small:v1"), DENIED, place.bucket)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(place.reference("small:v1"), DENIED, "redentials")


@NOT_S3
def test_with_the_wrong_secret(place: Place, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing and wrong credentials are told apart, each with what to do."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused(place.reference("small:v1"), DENIED, place.bucket)


@NOT_S3
def test_an_endpoint_that_cannot_be_reached(place: Place, refused: Refused) -> None:
    """An endpoint that cannot be reached is named, after a few tries; nothing hangs."""
    assert isinstance(place, Bucket)
    with place.gone():
        refused(place.reference("small:v1"), REMOTE, place.proxy.endpoint, "cannot be reached")


# --- mountpoints ---


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_mountpoints_that_will_not_do(place: Place, refused: Refused, tmp_path: Path) -> None:
    """The mountpoint must be an empty directory nothing is mounted on; each other case is told apart."""
    reference = place.reference("small:v1")
    refused(reference, MOUNT_ERROR, "does not exist", "mkdir", at=tmp_path / "missing")
    file = tmp_path / "file"
    file.write_text("")
    refused(reference, MOUNT_ERROR, "is a file", at=file)
    refused(reference, MOUNT_ERROR, "runs through a file", at=file / "m")
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").touch()
    refused(reference, MOUNT_ERROR, "is not empty", "something", at=full)
    dangling = tmp_path / "dangling"
    dangling.symlink_to("nowhere")
    refused(reference, MOUNT_ERROR, "does not exist", at=dangling)


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_double_mount(place: Place, engine: str, tmp_path: Path) -> None:
    """The mountpoint must be an empty directory nothing is mounted on; each other case is told apart."""
    reference = place.reference("small:v1")
    with mounted(reference, tmp_path / "m", engine) as mount:
        (tmp_path / "link").symlink_to("m")
        for again in (mount.root, tmp_path / "link"):
            done = run_fusepkg("mount", "--engine", engine, reference, again, check=False)
            check_refusal(done, MOUNT_ERROR, "already", "umount")
        assert len(mounts_below(tmp_path)) == 1
        assert (mount / "README.md").read_text() == "# A dataset\n"


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_unmounting_what_is_not_mounted(place: Place, engine: str, tmp_path: Path) -> None:
    """`umount`, `status` and `stat` of what is no mount of ours say so."""
    (tmp_path / "plain").mkdir()
    for command in ("umount", "status", "stat"):
        done = run_fusepkg(command, tmp_path / "plain", check=False)
        check_refusal(done, MOUNT_ERROR, str(tmp_path / "plain"))
    with mounted(place.reference("small:v1"), tmp_path / "m", engine) as mount:
        done = run_fusepkg("umount", mount / "train", check=False)
        check_refusal(done, MOUNT_ERROR, str(mount.root))
        assert (mount / "README.md").exists()


# --- what the machine lacks ---


def hidden(script: str, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a mount namespace of its own, in which ``script`` has taken something away."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a mount namespace")
    return subprocess.run(
        ["unshare", "-m", "sh", "-ec", f'{script}; exec "$@"', "sh", *(str(part) for part in command)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


NO_DEV_FUSE = "mkdir $TMPDIR/dev; mknod -m 666 $TMPDIR/dev/null c 1 3; mount --bind $TMPDIR/dev /dev"
USELESS_DEV_FUSE = "mount --bind /dev/null /dev/fuse"


@pytest.mark.parametrize("place", ["local"], indirect=True)
@pytest.mark.parametrize("engine_asked", ["auto", "fuse", "erofs"])
@pytest.mark.parametrize("script", [NO_DEV_FUSE, USELESS_DEV_FUSE], ids=["no /dev/fuse", "a useless /dev/fuse"])
def test_without_dev_fuse(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, engine_asked: str
) -> None:
    """Without a working /dev/fuse nothing can be mounted; the message says how a container gets one."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    root = tmp_path / "m"
    root.mkdir()
    command = (sys.executable, "-m", "fusepkg", "mount", "--engine", engine_asked, place.reference("small:v1"), root)
    done = hidden(script, *command)
    check_refusal(done, MOUNT_ERROR, *(["/dev/fuse", "--device"] if script == NO_DEV_FUSE else ["mount"]))
    check_nothing_left(root)
    shutil.rmtree(tmp_path / "dev", ignore_errors=True)


def test_older_kernels_get_the_fuse_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel before 6.12 `auto` chooses fuse and says why; `--engine erofs` says what it needs."""
    if os.geteuid() != 0:
        pytest.skip("without root it never comes to the kernel's version")
    monkeypatch.setattr(kernel, "kernel_version", lambda: (6, 1))
    choice = mounting.choose_engine("auto")
    assert choice.engine == "fuse"
    assert "it needs Linux 6.12 or newer" in choice.reason
    with pytest.raises(EngineUnavailable, match=r"it needs Linux 6\.12 or newer") as caught:
        mounting.choose_engine("erofs")
    assert caught.value.hint == "`--engine fuse` works here"
    monkeypatch.setattr(kernel, "kernel_version", lambda: (6, 12))
    assert mounting.choose_engine("auto").engine == "erofs"


def test_the_root_of_a_user_namespace_gets_the_fuse_engine(folder: Folder, tmp_path: Path) -> None:
    """`auto` means that it mounts: in a user namespace, where the kernel refuses erofs, it takes fuse and says why."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    subprocess.run(["mknod", "-m", "666", tmp_path / "fuse", "c", "10", "229"], check=True)
    (tmp_path / "m").mkdir()
    script = 'mount --bind "$1/fuse" /dev/fuse; "$0" -m fusepkg mount "$2" "$1/m"; cat "$1/m/README.md"'
    script += '; "$0" -m fusepkg umount "$1/m"'
    with surroundings(tmp_path, folder.settings):
        command = ["unshare", "-Urm", "--fork", "sh", "-ec", script, sys.executable, tmp_path, "local/small:v1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "# A dataset" in done.stdout
    assert "Engine: fuse (erofs failed: mounting erofs at" in done.stderr
    (tmp_path / "fuse").unlink()
