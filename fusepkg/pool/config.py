"""What a run is told: where data come from and go to, what compares them, how many are chosen. The file pool.toml."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import msgspec

from fusepkg.errors import UsageError
from fusepkg.model.reference import parse_reference

Bounds = dict[str, float]
"""Of a number: ``gt``, ``gte``, ``lt`` and ``lte``, all of which must hold."""

OPERATORS = ("gt", "gte", "lt", "lte")


class Balance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares of classes, which are the values of a field ``key``; what they lack to 1 is that of all others."""

    key: str
    target: dict[str, float]


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many are chosen: each the farthest from all before it, until one of these bounds is met.

    ``min_distance`` from all chosen (embeddings have length 1, so distances are between 0 and 2), ``n_samples`` in a
    run, ``proportion`` of what is new. ``thresholds`` are bounds of fields, ``{"sharpness": {"gt": 20}}``.
    """

    min_distance: float | None = None
    n_samples: int | None = None
    proportion: float | None = None
    thresholds: dict[str, Bounds] = {}
    balance: Balance | None = None

    def at_most(self, new: int) -> int | None:
        """Return how many of so many new ones may be chosen; None without a bound."""
        bounds = [] if self.n_samples is None else [self.n_samples]
        if self.proportion is not None and new:
            bounds.append(max(1, int(self.proportion * new + 1e-9)))
        return min(bounds, default=None)


class OnnxInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model is given: (pixel - mean) / std of pixels from 0 to 1, by channel. Side in pixels if it takes any."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    side: int = 224


class PoolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole pool.toml."""

    source: str | list[str]
    target: str
    embedder: str = "histogram"
    onnx: OnnxInput = OnnxInput()
    frames_per_second: float | None = None
    metadata: str | None = None
    process_all: bool = False
    selection: Selection

    @property
    def sources(self) -> list[str]:
        """All of them."""
        return [self.source] if isinstance(self.source, str) else self.source


def read_config(path: Path) -> PoolConfig:
    """Read a pool.toml; names of files in it are relative to it. Raises UsageError."""
    try:
        config = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), PoolConfig, strict=True)
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} is not TOML: {exc}") from exc
    except msgspec.ValidationError as exc:
        raise _wrong(str(path), exc) from exc
    return _beside(check(config, str(path)), path.parent)


def _wrong(where: str, error: msgspec.ValidationError) -> UsageError:
    said = str(error).replace("Object contains", "it has the").replace("Object missing", "it lacks the")
    return UsageError(f"{where}: {said}", hint="docs/guides/datapool.md lists what there is")


def check(config: PoolConfig, where: str) -> PoolConfig:
    """Return a configuration whose values have the right types. Raises UsageError for what cannot be meant."""
    try:
        config = msgspec.convert(msgspec.to_builtins(config), PoolConfig, strict=True)
    except (msgspec.ValidationError, TypeError) as exc:
        raise _wrong(where, msgspec.ValidationError(str(exc))) from exc
    if not config.sources or not all(config.sources):
        raise UsageError(f"{where}: source names nothing", hint="Name a bucket's prefix, a folder or a package")
    target = parse_reference(config.target)
    if target.top_hash is not None:
        raise UsageError(f"{where}: target names a version, which never changes", hint="Leave out the hash")
    rate = config.frames_per_second
    if rate is not None and not 0 < rate < math.inf:
        raise UsageError(f"{where}: frames_per_second is {rate}", hint="Write a number above 0, or leave it out")
    if not all(config.onnx.std) or config.onnx.side < 1:
        raise UsageError(f"{where}: std and side of onnx must not be 0")
    _check_selection(config.selection, where)
    return config


def _check_selection(chosen: Selection, where: str) -> None:
    if chosen.min_distance is None and chosen.n_samples is None and chosen.proportion is None:
        raise UsageError(
            f"{where}: selection says nothing of how many", hint="Set min_distance, n_samples or proportion, or several"
        )
    if chosen.min_distance is not None and not 0 <= chosen.min_distance < math.inf:
        raise UsageError(f"{where}: min_distance is {chosen.min_distance}", hint="Distances are between 0 and 2")
    if chosen.n_samples is not None and chosen.n_samples < 1:
        raise UsageError(f"{where}: n_samples is {chosen.n_samples}", hint="Write 1 or more")
    if chosen.proportion is not None and not 0 < chosen.proportion <= 1:
        raise UsageError(f"{where}: proportion is {chosen.proportion}", hint="Write a number above 0, at most 1")
    for key, bounds in chosen.thresholds.items():
        if (wrong := set(bounds) - set(OPERATORS)) or not bounds:
            raise UsageError(f"{where}: threshold of {key} has {sorted(wrong)}", hint=f"Use {', '.join(OPERATORS)}")
    if chosen.balance is not None:
        shares = chosen.balance.target.values()
        if not shares or min(shares) < 0 or not sum(shares) <= 1 + 1e-9:
            raise UsageError(f"{where}: the shares of balance must be 0 or more, and 1 at most in all")


def is_folder(source: str) -> bool:
    """Return whether a source is a folder: a package has the form ``bucket/name``, without a slash at either end."""
    return "://" not in source and (source.startswith(("/", ".", "~")) or source.endswith("/") or "/" not in source)


def is_prefix(source: str) -> bool:
    """Return whether a source is a bucket, or all below a prefix in one."""
    return source.startswith("s3://")


def _beside(config: PoolConfig, directory: Path) -> PoolConfig:
    """Return the same with names of files relative to a directory."""

    def placed(name: str) -> str:
        return str((directory / Path(name).expanduser()).absolute())

    embedder = placed(config.embedder) if config.embedder.endswith(".onnx") else config.embedder
    sources = [placed(one) if is_folder(one) else one for one in config.sources]
    metadata = None if config.metadata is None else placed(config.metadata)
    return msgspec.structs.replace(config, source=sources, embedder=embedder, metadata=metadata)
