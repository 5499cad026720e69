"""What is wrong with a package, and which line of the specification says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusepkg.fit.spec import Amount
    from fusepkg.schemas.documents import Document


@dataclass(frozen=True, slots=True)
class Problem:
    """``where`` is a logical key, "" for the package; ``line`` is that of the specification."""

    where: str
    what: str
    line: int

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


@dataclass(frozen=True, slots=True)
class Problems:
    """Collects them."""

    document: Document
    found: list[Problem] = field(default_factory=list)

    def add(self, where: str, what: str, at: tuple[str | int, ...]) -> None:
        """Something is not as the specification has it at a place."""
        self.found.append(Problem(where, what, self.document.line(*at)))


def outside(value: float, amount: Amount | None, noun: str) -> str:
    """Return what is wrong with an amount; "" where nothing is."""
    if amount is None:
        return ""
    low, high = (amount.get("min"), amount.get("max")) if isinstance(amount, dict) else (amount, amount)
    if (low is None or value >= low) and (high is None or value <= high):
        return ""
    found = f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"
    if low == high:
        wanted = f"not {low:,g}"
    elif low is not None and value < low:
        wanted = f"at least {low:,g} wanted"
    else:
        wanted = f"at most {high:,g} wanted"
    return f"{found} {noun}{'' if value == 1 or not noun else 's'}, {wanted}".replace(" ,", ",")
