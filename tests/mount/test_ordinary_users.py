"""The fuse engine for users who are not root, and who may enter a mount."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import trees
from tests.mount.conftest import ENGINES, require_engine
from tests.mount.mounting import mounted
from tests.mount.places import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mount.places import Place

pytestmark = pytest.mark.fuse

USER_ID = 65534
"""nobody; any number will do."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is not root, with a home of their own, in a mount namespace where anyone may open /dev/fuse."""

    home: Path
    environment: dict[str, str]
    namespace: int
    """A process in that mount namespace."""

    def command(self, *command: object, user_id: int = USER_ID) -> list[str]:
        """A command that runs another as this user."""
        enter = ["/usr/bin/nsenter", "-t", str(self.namespace), "-m", "/usr/bin/setpriv"]
        return [*enter, f"--reuid={user_id}", f"--regid={user_id}", "--clear-groups", *(str(part) for part in command)]

    def run(
        self, *command: object, env: dict[str, str] | None = None, user_id: int = USER_ID
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this user."""
        return subprocess.run(
            self.command(*command, user_id=user_id),
            env=self.environment | (env or {}), cwd="/", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def fusepkg(
        self, *arguments: object, env: dict[str, str] | None = None, user_id: int = USER_ID
    ) -> subprocess.CompletedProcess[str]:
        """Run our command line as this user."""
        return self.run(sys.executable, "-m", "fusepkg", *arguments, env=env, user_id=user_id)

    def mounts(self) -> int:
        """How many mounts there are below the home."""
        return Path(f"/proc/{self.namespace}/mountinfo").read_text().count(f" {self.home}/")


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[int]:
    """A process in a mount namespace of its own whose /dev/fuse is open to all, as udev makes it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    script = "mknod -m 666 $0 c 10 229; mount --bind $0 /dev/fuse; echo; exec cat"
    command = ["unshare", "-m", "sh", "-ec", script, tmp_path / "fuse"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.read(1) == b"\n"
        yield holder.pid
        holder.communicate(b"")
    (tmp_path / "fuse").unlink()


@pytest.fixture
def user(place: Place, namespace: int) -> Iterator[User]:
    """An ordinary user; their home is outside pytest's directory, which only root may enter."""
    home = Path(tempfile.mkdtemp(prefix="fusepkg-user-"))
    (home / "m").mkdir()
    (home / "run").mkdir(mode=0o700)
    trees.small(home / "folder")
    for directory, _, files in os.walk(home):
        for name in ["", *files]:
            os.chown(os.path.join(directory, name), USER_ID, USER_ID, follow_symlinks=False)
    environment = {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "XDG_RUNTIME_DIR": str(home / "run"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "FUSEPKG_TEST_RUN": os.environ["FUSEPKG_TEST_RUN"],
    }
    if isinstance(place, Bucket):
        environment |= place.settings
    user = User(home, environment, namespace)
    try:
        tried = user.run(sys.executable, "-c", "import fusepkg")
        if tried.returncode != 0:
            pytest.skip(f"an ordinary user cannot run this Python: {tried.stderr.strip()[-100:]}")
        yield user
    finally:
        if user.mounts():
            user.run("fusermount3", "-uz", home / "m")
        for _ in range(100):  # a daemon that ends writes its last words to the cache
            shutil.rmtree(home, ignore_errors=True)
            if not home.exists():
                break
            time.sleep(0.1)
        else:
            shutil.rmtree(home)


def published(user: User, place: Place) -> str:
    """A package this user can read: the bucket's, or one in their own registry."""
    if isinstance(place, Bucket):
        return place.reference("small:v1")
    pushed = user.fusepkg("push", user.home / "folder", "local/small:v1")
    assert pushed.returncode == 0, pushed.stderr
    return "local/small:v1"


def test_mounting_without_root(user: User, place: Place) -> None:
    """Who is not root mounts with the fuse engine, chosen by itself, and needs nothing but fusermount3."""
    mount = user.home / "m"
    done = user.fusepkg("mount", published(user, place), mount)
    assert done.returncode == 0, done.stderr
    assert "Engine: fuse (erofs cannot run: it needs root)" in done.stderr
    assert user.run("diff", "-r", "--no-dereference", user.home / "folder", mount).stdout == ""
    assert user.run("stat", "-c", "%u %a", mount, mount / "README.md").stdout == f"{USER_ID} 755\n{USER_ID} 644\n"
    assert user.run(mount / "run.sh").stdout == "it runs\n"
    refused = user.run("touch", mount / "new")
    assert "Read-only file system" in refused.stderr
    assert "Permission denied" in user.run("ls", mount, user_id=0).stderr  # not even root, unless --allow-other
    assert "fetched_objects" in user.fusepkg("status", mount, "--json").stdout
    assert user.mounts() == 1
    assert user.fusepkg("umount", mount).returncode == 0
    assert user.mounts() == 0
    assert user.fusepkg("mounts").stdout.count("\n") == 1


def test_a_busy_mount_of_theirs_stays(user: User, place: Place) -> None:
    """While a program has a file open or works in the mount, unmounting is refused and nothing changes."""
    mount = user.home / "m"
    assert user.fusepkg("mount", published(user, place), mount).returncode == 0
    command = user.command("sh", "-c", f"exec 3<{mount}/README.md; echo; exec cat")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.read(1) == b"\n"
        said = user.fusepkg("umount", mount)
        assert said.returncode == 7
        assert "is in use" in said.stderr
        assert user.mounts() == 1
        reader.communicate(b"")
    assert user.fusepkg("umount", mount).returncode == 0


def test_erofs_needs_root(user: User, place: Place) -> None:
    """`--engine erofs` without root says what is missing, and that fuse works."""
    refused = user.fusepkg("mount", "--engine", "erofs", place.reference("small:v1"), user.home / "m")
    assert refused.returncode == 7
    assert refused.stderr == (
        "Error: the erofs engine cannot run here: it needs root\n  `--engine fuse` works here\n"
    )  # fmt: skip
    assert list((user.home / "run").rglob("*.json")) == []


def test_without_fusermount3(user: User, place: Place) -> None:
    """Without fusermount3 an ordinary user is told which package to install."""
    (user.home / "bin").mkdir()
    refused = user.fusepkg("mount", place.reference("small:v1"), user.home / "m", env={"PATH": str(user.home / "bin")})
    assert refused.returncode == 7
    assert "fusermount3 is not installed (package fuse3)" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_others_do_not_see_mounts_that_are_not_theirs(user: User, place: Place) -> None:
    """A user sees and ends their own mounts only."""
    mount = user.home / "m"
    assert user.fusepkg("mount", published(user, place), mount).returncode == 0
    (user.home / "other").mkdir()
    os.chown(user.home / "other", USER_ID - 1, USER_ID - 1)
    theirs = {"HOME": str(user.home / "other"), "XDG_RUNTIME_DIR": str(user.home / "other")}
    user.home.chmod(0o755)
    assert user.fusepkg("mounts", user_id=USER_ID - 1, env=theirs).stdout.count("\n") == 1  # the head of the table
    said = user.fusepkg("umount", mount, user_id=USER_ID - 1, env=theirs)
    assert said.returncode == 7
    assert "Traceback" not in said.stderr
    assert user.mounts() == 1


@pytest.mark.parametrize("engine_name", ENGINES)
def test_allow_other(place: Place, engine_name: str) -> None:
    """Other users cannot enter a mount, nor root a user's; with --allow-other every user can read it."""
    require_engine(engine_name)
    root = Path(tempfile.mkdtemp(prefix="fusepkg-shared-"))
    try:
        root.chmod(0o755)
        for options, wanted in (((), ""), (("--allow-other",), "# A dataset\n")):
            with mounted(place.reference("small:v1"), root / "m", engine_name, *options) as mount:
                become = ["setpriv", f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups"]
                seen = subprocess.run(
                    [*become, "cat", mount / "README.md"], capture_output=True, text=True, check=False
                )
                assert seen.stdout == wanted
                assert (seen.returncode == 0) == bool(wanted)
                assert mount.root.stat().st_mode & 0o777 == (0o700 if engine_name == "erofs" and not wanted else 0o755)
    finally:
        shutil.rmtree(root)
