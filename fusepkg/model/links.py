"""Where the symbolic links of a package may lead: never out of it, not through other links either.

Two rules, both asked of every link. By its text alone, a link may not climb above the root of the package. And it may
not when it is followed as the kernel does, through other links of the package: ``..`` after a link to a directory is
the real parent of that directory, so the text alone cannot tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import ManifestInvalid
from fusepkg.model.physical_key import MAX_PATH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

_Names = dict[bytes, "_Names | int"]
"""What is below a directory that has links in or below it: directories, and numbers of links."""

_OUTSIDE, _NOWHERE = b"..", b"/"
"""Where a link leads if not to a path in the package. Nowhere: round in circles."""


_NAMED = 3
"""Links that a message names before it counts the rest."""

_SHOWN_BYTES = 100
"""How much of a name a message repeats."""


def text_stays_inside(logical_key: str, target: str) -> bool:
    """Return whether a link's text does not climb above the root, if every part of it were a plain directory."""
    depth = logical_key.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return not target.startswith("/")


def blunted(logical_key: bytes, target: bytes) -> bytes:
    """Return a text for a link that tells where it would lead, but cannot be followed.

    It begins with the link's own name, so that the kernel goes round in circles: ELOOP, whatever lies beside it.
    """
    text = logical_key.rpartition(b"/")[2] + b"/" + target.lstrip(b"/")
    return text[:MAX_PATH_BYTES].decode("utf-8", "ignore").encode()


class LinkGraph:
    """All links of a package. Only they take memory; what is no link is taken for a directory."""

    def __init__(self) -> None:
        self._links: list[tuple[bytes, bytes]] = []
        self._root: _Names = {}
        self._results: dict[int, bytes] = {}

    def add(self, logical_key: bytes, target: bytes, *, is_blunted: bool = False) -> None:
        """Add a link: its logical key and its text. One that is blunted where it is shown leads nowhere."""
        names = self._root
        *directories, name = logical_key.split(b"/")
        for directory in directories:
            below = names.setdefault(directory, {})
            if isinstance(below, int):
                return  # a link and a directory of one name, which no package can have
            names = below
        if is_blunted:
            self._results[len(self._links)] = _NOWHERE
        names[name] = len(self._links)
        self._links.append((logical_key, target))

    def leaving(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the key and the text of each link that leads out of the package, in the order they were added."""
        for number, link in enumerate(self._links):
            if self._follow(number) == _OUTSIDE:
                yield link

    def check(self) -> None:
        """Raise ManifestInvalid, naming the first links that lead out of the package."""
        leaving = list(self.leaving())
        if leaving:
            shown = ", ".join(f"{_shown(key)} to {_shown(target)}" for key, target in leaving[:_NAMED])
            more = f" and {len(leaving) - _NAMED} more" if len(leaving) > _NAMED else ""
            raise ManifestInvalid(
                f"symbolic links lead out of the package through other links: {shown}{more}",
                hint="Publish it again without them, or with --symlinks follow-outside",
            )

    def _follow(self, number: int) -> bytes:
        """Return where a link leads: a path in the package, or ``_OUTSIDE`` or ``_NOWHERE``.

        Links on the way are followed first, and where they lead is kept, so that each is followed twice at most.
        """
        if number in self._results:
            return self._results[number]
        walks = [self._walk_of(number)]
        under_way = {number}
        while True:
            walk = walks[-1]
            found = walk.go()
            if isinstance(found, int):
                if found in under_way:
                    return self._all_lead(walks, _NOWHERE)
                if found not in self._results:
                    walks.append(self._walk_of(found))
                    under_way.add(found)
                    continue
                found = self._results[found]
                if found in (_OUTSIDE, _NOWHERE):
                    return self._all_lead(walks, found)
                walk.jump(found)
                continue
            if found == _OUTSIDE:
                return self._all_lead(walks, _OUTSIDE)
            walks.pop()
            under_way.discard(walk.number)
            if not walks:
                return found
            self._results[walk.number] = found
            walks[-1].jump(found)

    def _all_lead(self, walks: list[_Walk], where: bytes) -> bytes:
        for walk in walks:
            self._results[walk.number] = where
        return where

    def _walk_of(self, number: int) -> _Walk:
        logical_key, target = self._links[number]
        return _Walk(self._root, number, logical_key.rpartition(b"/")[0], target)


class _Walk:
    """One link being followed: where it has come to, and the parts of its text that are left."""

    __slots__ = ("_is_absolute", "_left", "_nodes", "_path", "_root", "number")

    def __init__(self, root: _Names, number: int, directory: bytes, target: bytes) -> None:
        self._root = root
        self.number = number
        self._left = target.split(b"/")
        self._left.reverse()
        self._is_absolute = target.startswith(b"/")
        self.jump(directory)

    def jump(self, path: bytes) -> None:
        """Go on from another place."""
        self._path = path.split(b"/") if path else []
        self._nodes: list[_Names | None] = [self._root]
        for name in self._path:
            self._nodes.append(self._below(name))

    def go(self) -> int | bytes:
        """Walk on to the next link, and return its number; else where this one leads."""
        if self._is_absolute:
            return _OUTSIDE
        while self._left:
            part = self._left.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not self._path:
                    return _OUTSIDE
                self._path.pop()
                self._nodes.pop()
                continue
            node = self._nodes[-1]
            found = node.get(part) if node is not None else None
            if isinstance(found, int):
                return found
            self._path.append(part)
            self._nodes.append(found)
        return b"/".join(self._path)

    def _below(self, name: bytes) -> _Names | None:
        node = self._nodes[-1]
        found = node.get(name) if node is not None else None
        return found if isinstance(found, dict) else None


def _shown(name: bytes) -> str:
    return repr(name[:_SHOWN_BYTES].decode("utf-8", "replace"))
