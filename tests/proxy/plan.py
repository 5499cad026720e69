"""The proxy's records: requests as they arrived, and the rules of the fault plan. Values, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.proxy.faults import Fault, ShiftRange, WholeObject
from tests.proxy.operation import operation_of, split_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.wire import Head

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(slots=True, eq=False)
class Request:
    """One request as it arrived, and what became of it. ``headers`` have lower-case names."""

    method: str
    target: str
    headers: dict[str, str]
    bucket: str
    key: str
    query: dict[str, str]
    operation: str
    range: tuple[int, int | None] | None
    """First and last byte asked for; None without a Range header (or with one that counts from the end)."""
    fault: Fault | None = None
    status: int = 0
    """What the client was answered; 0: nothing so far."""
    sent: int = 0
    """Bytes of body the client was sent."""
    answered: bool = False
    """Whether all that is to come of it has come."""

    def is_a(self, operation: str | None, key: str | None) -> bool:
        """Whether it is of this operation and key; None: any."""
        return operation in (None, self.operation) and key in (None, self.key)


def request_of(head: Head) -> Request:
    """Read a request's head. Raises ValueError where it is none."""
    method, target, _ = head.first.split(" ")
    headers = {name.lower(): value for name, value in head.headers}
    bucket, key, query = split_target(target)
    found = _RANGE.fullmatch(headers.get("range", ""))
    byte_range = (int(found[1]), int(found[2]) if found[2] else None) if found else None
    return Request(method, target, headers, bucket, key, query, operation_of(method, target, headers), byte_range)


@dataclass(slots=True, eq=False)
class Rule:
    """One line of the fault plan. ``after`` and ``times`` (None: for ever) count down, ``hits`` counts up."""

    fault: Fault
    operation: str | None
    key: str | None
    when: Callable[[Request], bool] | None
    times: int | None
    after: int
    hits: int = 0

    def takes(self, request: Request) -> bool:
        """Whether this request is to be spoiled; counts it."""
        if self.times == 0 or not request.is_a(self.operation, self.key):
            return False
        if isinstance(self.fault, WholeObject | ShiftRange) and request.range is None:
            return False
        if self.when is not None and not self.when(request):
            return False
        if self.after:
            self.after -= 1
            return False
        self.times = None if self.times is None else self.times - 1
        self.hits += 1
        return True
