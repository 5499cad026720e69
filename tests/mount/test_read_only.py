"""Nothing in a mount can be changed; see docs/reference/semantics.md."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import files_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount

    MountFactory = Callable[..., AbstractContextManager[Mount]]

pytestmark = pytest.mark.fuse


def attempts(root: str) -> dict[str, Callable[[], object]]:
    """Every way to change something."""
    file, missing, directory = f"{root}/README.md", f"{root}/new", f"{root}/train"
    return {
        "create": lambda: os.open(missing, os.O_WRONLY | os.O_CREAT),
        "create exclusively": lambda: os.open(missing, os.O_RDONLY | os.O_CREAT | os.O_EXCL),
        "create in a directory": lambda: os.open(f"{directory}/new", os.O_WRONLY | os.O_CREAT),
        "open to write": lambda: os.open(file, os.O_WRONLY),
        "open to read and write": lambda: os.open(file, os.O_RDWR),
        "open to append": lambda: os.open(file, os.O_WRONLY | os.O_APPEND),
        "open and truncate": lambda: os.open(file, os.O_RDONLY | os.O_TRUNC),
        "unnamed file": lambda: os.open(directory, os.O_WRONLY | os.O_TMPFILE),
        "truncate": lambda: os.truncate(file, 0),
        "unlink": lambda: os.unlink(file),
        "unlink a link": lambda: os.unlink(f"{root}/link"),
        "rename": lambda: os.rename(file, missing),
        "rename over": lambda: os.rename(file, f"{root}/run.sh"),
        "mkdir": lambda: os.mkdir(missing),
        "rmdir": lambda: os.rmdir(f"{root}/nothing-here"),
        "symlink": lambda: os.symlink("README.md", missing),
        "link": lambda: os.link(file, missing),
        "mkfifo": lambda: os.mkfifo(missing),
        "mknod": lambda: os.mknod(missing),
        "chmod": lambda: os.chmod(file, 0o600),
        "chmod a directory": lambda: os.chmod(directory, 0o700),
        "chown": lambda: os.chown(file, 0, 0),
        "lchown": lambda: os.lchown(f"{root}/link", 0, 0),
        "utime": lambda: os.utime(file),
        "utime to a time": lambda: os.utime(file, (1, 1)),
        "setxattr": lambda: os.setxattr(file, "user.mine", b"1"),
        "removexattr": lambda: os.removexattr(file, "user.fusepkg.hash"),
    }


def test_every_kind_of_write_is_refused(mount: MountFactory, originals: Originals) -> None:
    """Every attempt to change anything fails with EROFS, also for root."""
    with mount("small:v1") as mounted:
        answers: dict[str, str] = {}
        for name, attempt in attempts(str(mounted.root)).items():
            try:
                attempt()
                answers[name] = "allowed"
            except OSError as exc:
                answers[name] = errno.errorcode[exc.errno or 0]
        assert answers == dict.fromkeys(answers, "EROFS")
        assert not os.access(mounted / "README.md", os.W_OK)
        assert files_below(mounted.root) == files_below(originals.small)
