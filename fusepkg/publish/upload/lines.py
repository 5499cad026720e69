"""Telling how far a push of data is, by the lines that its contents are shown in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.publish.draft.items import folders_first, holders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg.publish.draft.draft import Draft
    from fusepkg.publish.draft.items import Item
    from fusepkg.publish.draft.tree import OrderedSlots, Slot


@dataclass(frozen=True, slots=True)
class DataPushed:
    """One line of the contents is in the bucket. ``existed`` says that nothing had to be uploaded or copied."""

    source: str
    target: str
    is_local: bool
    existed: bool

    def __str__(self) -> str:
        verb = "Pushing" if self.is_local else "Copying"
        target = f"{self.target}..." if self.target.endswith("/") else self.target
        return f"{verb} {self.source} to {target}{' (data exists, skipping)' if self.existed else ''}"


class Lines:
    """Tells of each line once all of its bytes lie in the bucket, in the order of the lines."""

    def __init__(
        self,
        draft: Draft,
        moving: OrderedSlots,
        needs_upload: Iterable[tuple[str, Slot, bytes]],
        readable: Callable[[str], str],
        report: Callable[[DataPushed], None],
    ) -> None:
        holder = holders(draft.all_items)
        self._waiting = folders_first(draft.items())
        self._moving = {holder[item] for _, (item, _) in moving}
        self._readable = readable
        self._report = report
        self._missing: Counter[Item] = Counter()
        self._new: set[Item] = set()
        self._users: dict[bytes, tuple[Item, ...]] = {}
        alone = {item: (item,) for item in self._moving}  # one for all that it alone uses
        for _, slot, name in needs_upload:
            item = holder[slot[0]]
            self._missing[item] += 1
            others = self._users.get(name)
            self._users[name] = (*others, item) if others else alone[item]

    def leave_out_what_stays(self) -> None:
        """Tell nothing of what lies in a bucket."""
        self._waiting = [item for item in self._waiting if item in self._moving]

    def uploaded(self, name: bytes, *, is_new: bool) -> None:
        """Hear that the bytes of this name lie in the bucket."""
        for item in self._users[name]:
            self._missing[item] -= 1
            if is_new:
                self._new.add(item)
        while self._waiting and not self._missing[self._waiting[0]]:
            self._tell(self._waiting.pop(0))

    def finish(self) -> None:
        """Tell of the rest: nothing more is coming."""
        for item in self._waiting:
            self._tell(item)
        self._waiting = []

    def _tell(self, item: Item) -> None:
        target = self._readable(item.logical) if item in self._moving else item.source
        self._report(DataPushed(item.source, target, item.is_local, item not in self._new))
