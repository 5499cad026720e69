"""DVC's configuration: where a repository's remotes and its own cache are."""

from __future__ import annotations

import configparser
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from fusepkg.errors import RepositoryUnfit

_REMOTE = re.compile(r"""'?remote "(.+?)"'?""")

CONFIG = ".dvc/config"

_SYSTEM_CONFIG = Path("/etc/xdg/dvc/config")


@dataclass(frozen=True, slots=True)
class Remote:
    """One remote: in S3 ``bucket`` and ``path`` as prefix, else ``path`` is a directory of this machine.

    ``options`` are DVC's for S3, those that fusepkg follows. ``keeps_versions``: its objects are named by paths, and
    the files that track them name versions of the bucket. ``is_endpoint_foreign``: the endpoint among them was named
    by a repository of another machine, which others write, and not by a file of this one.
    """

    name: str
    bucket: str
    path: str
    options: tuple[tuple[str, str], ...] = ()
    keeps_versions: bool = False
    is_endpoint_foreign: bool = False

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.path}" if self.bucket else self.path


_S3_OPTIONS = ("endpointurl", "profile", "region", "allow_anonymous_login")


class Config:
    """All levels of a repository's configuration, the nearest first to be believed.

    ``text`` is `.dvc/config` at the revision; ``directory`` is the working tree that `.dvc` lies in, None for a
    repository of another machine.
    """

    def __init__(self, text: str, directory: Path | None, shown: str) -> None:
        self._shown = shown
        self._sections: dict[str, dict[str, tuple[str, Path | None]]] = {}
        home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "dvc/config"
        for path in (_SYSTEM_CONFIG, home):
            self._add(_read(path), path, path.parent)
        own = directory / ".dvc" if directory else None
        self._add(text, f"{shown}: {CONFIG}", own)
        if own:
            self._add(_read(own / "config.local"), own / "config.local", own)

    def _add(self, text: str, name: Path | str, base: Path | None) -> None:
        parser = configparser.ConfigParser(strict=False, interpolation=None, default_section="\0")
        try:
            parser.read_string(text)
        except configparser.Error as exc:
            raise RepositoryUnfit(f"{name} is no configuration of DVC: {str(exc).partition(chr(10))[0]}") from exc
        for section in parser.sections():
            found = self._sections.setdefault(section.strip("'"), {})
            found.update({option: (value.strip(), base) for option, value in parser[section].items()})

    def section(self, name: str) -> dict[str, str]:
        """Return the options of a section."""
        return {option: value for option, (value, _) in self._sections.get(name, {}).items()}

    @property
    def default_remote(self) -> str:
        """The remote that outputs are in unless they name another; empty if there is none."""
        return self._sections.get("core", {}).get("remote", ("", None))[0]

    def cache_directory(self, directory: Path) -> Path:
        """Return where the repository in a working tree keeps its own objects."""
        value, base = self._sections.get("cache", {}).get("dir", ("", None))
        return (
            Path(os.path.normpath((base or directory) / Path(value).expanduser()))
            if value
            else directory / ".dvc/cache"
        )

    def remote(self, name: str, seen: tuple[str, ...] = ()) -> Remote:
        """Return a remote. Raises RepositoryUnfit for one that is not there, or of a kind that is not read."""
        options = self._sections.get(f'remote "{name}"')
        if options is None or "url" not in options or name in seen:
            known = [found[1] for section in self._sections if (found := _REMOTE.fullmatch(section))]
            raise RepositoryUnfit(
                f"{self._shown} has no remote {name!r}", hint=f"It has {', '.join(known)}" if known else "It has none"
            )
        keeps_versions = any(options.get(one, ("", None))[0].lower() == "true" for one in ("version_aware", "worktree"))
        url, base = options["url"]
        scheme, separator, rest = url.partition("://")
        if not separator:
            folder = Path(url).expanduser()
            if not folder.is_absolute() and base is None:
                raise RepositoryUnfit(
                    f"the remote {name!r} of {self._shown} is {url!r}, relative to a copy on another machine",
                    hint="Name a copy of the repository on this machine: dvc+PATH",
                )
            return Remote(name, "", os.path.normpath((base or Path()) / folder))
        if scheme == "file":
            return Remote(name, "", rest)
        if scheme == "remote":
            above, _, path_in_it = rest.partition("/")
            base_remote = self.remote(above, (*seen, name))
            path = "/".join(filter(None, (base_remote.path, path_in_it)))
            return replace(base_remote, name=name, path=path, keeps_versions=keeps_versions)
        if scheme != "s3":
            raise RepositoryUnfit(
                f"the remote {name!r} of {self._shown} is at {scheme}://; fusepkg reads those in S3 and in folders",
                hint="Name such a remote in DVC's configuration, or bring the data with `dvc pull`",
            )
        bucket, _, prefix = rest.partition("/")
        told = tuple((one, options[one][0]) for one in _S3_OPTIONS if one in options)
        is_endpoint_foreign = options.get("endpointurl", ("", Path()))[1] is None
        return Remote(name, bucket, prefix.strip("/"), told, keeps_versions, is_endpoint_foreign)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise RepositoryUnfit(f"{path} cannot be read: {exc}") from exc
