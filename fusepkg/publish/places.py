"""Where the bytes of a version lie, kept in little room: some 60 bytes for each content, and its key."""

from __future__ import annotations

from array import array

from fusepkg_cache.digest import DIGEST_BYTES

_LEAST_SLOTS = 1 << 6

WAITING, SENT = "", "\0"
"""Stand for the physical key of bytes that have to be uploaded, and that are being."""

_NOWHERE = (WAITING, SENT)

_BASED, _WHOLE = b"\1", b"\2"
"""What a text begins with: whether the base was taken off."""

_END = b"\0"


class Names:
    """Numbers names of 32 bytes in the order in which they are added: a hash table with open addressing."""

    __slots__ = ("_names", "_slots")

    def __init__(self, expected: int = 0) -> None:
        self._names = bytearray()
        self._slots = _empty_slots(expected)

    def __len__(self) -> int:
        return len(self._names) // DIGEST_BYTES

    def find(self, name: bytes) -> int | None:
        """Return the number of a name; None if it was not added."""
        found = self._slots[self._slot(name)]
        return found - 1 if found else None

    def add(self, name: bytes) -> int:
        """Return the number of a name, which is added if it is new."""
        slot = self._slot(name)
        if self._slots[slot]:
            return self._slots[slot] - 1
        self._names += name
        count = self._slots[slot] = len(self)
        if 3 * count > 2 * len(self._slots):
            self._grow()
        return count - 1

    def _slot(self, name: bytes) -> int:
        """Return the slot of a name, or the free one where it belongs."""
        slots, names, last = self._slots, self._names, len(self._slots) - 1
        slot = int.from_bytes(name[:8], "little") & last
        while found := slots[slot]:
            if names[(found - 1) * DIGEST_BYTES : found * DIGEST_BYTES] == name:
                break
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        self._slots = _empty_slots(2 * len(self))
        for number in range(len(self)):
            name = bytes(self._names[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])
            self._slots[self._slot(name)] = number + 1


def _empty_slots(expected: int) -> array[int]:
    count = _LEAST_SLOTS
    while 3 * expected > 2 * count:
        count *= 2
    return array("I", bytes(4 * count))


class Places:
    """A physical key, or WAITING or SENT, for the name of some bytes (``name_of``).

    ``base`` is what many of the keys start with; it is not kept for each. Room for ``expected`` names is made at once.
    """

    __slots__ = ("_at", "_base", "_names", "_odd", "_texts")

    def __init__(self, base: str = "", expected: int = 0) -> None:
        self._base = base
        self._names = Names(expected)
        self._at = array("Q")
        self._texts = bytearray()
        self._odd: dict[bytes, str] = {}
        """Those of names of another length: of weak checksums."""

    def __contains__(self, name: bytes) -> bool:
        return name in self._odd if len(name) != DIGEST_BYTES else self._names.find(name) is not None

    def get(self, name: bytes, default: str) -> str:
        """Return the physical key for a name."""
        if len(name) != DIGEST_BYTES:
            return self._odd.get(name, default)
        number = self._names.find(name)
        return default if number is None else self._text(self._at[number])

    def __getitem__(self, name: bytes) -> str:
        if len(name) != DIGEST_BYTES:
            return self._odd[name]
        number = self._names.find(name)
        if number is None:
            raise KeyError(name)
        return self._text(self._at[number])

    def __setitem__(self, name: bytes, text: str) -> None:
        if len(name) != DIGEST_BYTES:
            self._odd[name] = text
            return
        number = self._names.add(name)
        if number == len(self._at):
            self._at.append(0)
        self._at[number] = self._keep(text)

    def _keep(self, text: str) -> int:
        """Return where a text lies: the two that stand for no place yet need no room."""
        if text in _NOWHERE:
            return _NOWHERE.index(text)
        at = len(self._texts) + len(_NOWHERE)
        if text.startswith(self._base):
            self._texts += _BASED + text[len(self._base) :].encode() + _END
        else:
            self._texts += _WHOLE + text.encode() + _END
        return at

    def _text(self, at: int) -> str:
        if at < len(_NOWHERE):
            return _NOWHERE[at]
        start = at - len(_NOWHERE)
        text = self._texts[start + 1 : self._texts.index(_END, start)].decode()
        return self._base + text if self._texts[start] == _BASED[0] else text
