"""From pictures to vectors of length 1: the built-in histograms, an ONNX model, or a function of the user's."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import MissingExtra, PoolUnfit, UsageError
from fusepkg.pool.libraries import Image, np
from fusepkg.work.entry_points import entry_point_names, load_entry_point

if TYPE_CHECKING:
    import numpy.typing as npt

    from fusepkg.pool.config import OnnxInput, PoolConfig
    from fusepkg.pool.farthest import Vectors

HISTOGRAM = "histogram"
"""The name of the built-in one."""

PLUGGED = "fusepkg.embedders"
"""The entry points that add embedders: functions as ``Function`` is."""

_SIDE, _CELLS, _BINS = 64, 2, 8
"""The built-in one looks at 64 x 64 pixels in 2 x 2 cells, in each at 8 shades of each colour and 8 directions."""

Prepared = Any
"""A picture as an embedder wants it: small, so that many fit into memory."""

Function = Callable[[list[Any]], Any]
"""The user's: takes pictures as arrays (height, width, 3) of bytes, gives an array with one row for each."""


@dataclass(frozen=True, slots=True)
class Embedder:
    """``identity`` names it in a pool: vectors of two embedders cannot be compared. ``batch`` pictures at a time."""

    identity: str
    batch: int
    prepare: Callable[[Image.Image], Prepared]
    embed: Callable[[Sequence[Prepared]], Any]

    def vectors(self, pictures: Sequence[Prepared], of: str = "a picture") -> Vectors:
        """Return one row a picture, of length 1; ``of`` says whose they are, for errors.

        Raises PoolUnfit where the embedder does not give that.
        """
        try:
            found = np.asarray(self.embed(pictures), np.float64)
        except (ValueError, TypeError) as exc:
            raise PoolUnfit(f"{self.identity} gives no array of numbers for {of}: {exc}") from exc
        if found.ndim < 2 or len(found) != len(pictures) or not found.size:
            raise PoolUnfit(
                f"{self.identity} gives an array of shape {list(found.shape)} for {len(pictures)} pictures of {of}",
                hint="It must give one row of numbers for each picture",
            )
        found = found.reshape(len(found), -1)
        if not np.isfinite(found).all():
            raise PoolUnfit(f"{self.identity} gives numbers for {of} that are not finite")
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        unit: Vectors = (found / np.where(norms > 0, norms, 1.0)).astype(np.float32)
        return unit


def open_embedder(config: PoolConfig, function: Function | None = None) -> Embedder:
    """Return the embedder that a configuration names, or one of a function. Raises UsageError, PoolUnfit."""
    name = config.embedder
    if function is not None:
        named = f"{function.__module__}:{getattr(function, '__qualname__', type(function).__qualname__)}"
        return _of_function(f"python:{named}", function)
    if name == HISTOGRAM:
        return Embedder("histogram-1", 64, _histogram_input, _histograms)
    if name.endswith(".onnx"):
        return _of_model(Path(name), config.onnx)
    module, separator, attribute = name.partition(":")
    if name in entry_point_names(PLUGGED):
        return _of_function(f"plugin:{name}", load_entry_point(PLUGGED, name))
    if not separator or not module or not attribute:
        raise UsageError(
            f"the embedder {name!r} is not known",
            hint="Write histogram, the name of a .onnx file, module:function, or one that was installed",
        )
    return _of_function(f"python:{name}", _find_function(module, attribute))


# --- built in ------------------------------------------------------------------------------------------------


def _histogram_input(image: Image.Image) -> Prepared:
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.uint8)


def _histograms(pictures: Sequence[Prepared]) -> npt.NDArray[np.float64]:
    return np.stack([_histogram(picture) for picture in pictures])


def _histogram(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the roots of how often each shade and each direction of edges comes, cell by cell."""
    grey = picture.astype(np.float64).mean(axis=2)
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    direction = ((np.arctan2(down, right) % np.pi) / np.pi * _BINS).astype(np.intp) % _BINS
    step = _SIDE // _CELLS
    parts = []
    for top in range(0, _SIDE, step):
        for left in range(0, _SIDE, step):
            cell = (slice(top, top + step), slice(left, left + step))
            shades = picture[cell].reshape(-1, 3) // (256 // _BINS)
            parts += [np.bincount(shades[:, colour], minlength=_BINS) / step**2 for colour in range(3)]
            edges = np.bincount(direction[cell].ravel(), strength[cell].ravel(), minlength=_BINS)
            parts.append(edges / (step**2 * 32))  # a grey edge of 32 in each pixel counts as much as a colour
    return np.sqrt(np.concatenate(parts))


# --- the user's ----------------------------------------------------------------------------------------------


def _of_function(identity: str, function: Function) -> Embedder:
    return Embedder(identity, 16, lambda image: np.asarray(image, np.uint8), lambda pictures: function(list(pictures)))


def _find_function(module: str, attribute: str) -> Function:
    """Import a function, also from the working directory, as ``python -m`` does."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_module(module)
    except ImportError as exc:
        raise UsageError(
            f"the embedder {module}:{attribute} cannot be imported: {exc}", hint="Set PYTHONPATH to where it lies"
        ) from exc
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise UsageError(f"the embedder {module}:{attribute} is not there, or is no function")
    return found  # type: ignore[no-any-return]  # whatever it is, it can be called; ``vectors`` looks at what it gives


# --- ONNX ----------------------------------------------------------------------------------------------------


def _of_model(path: Path, wanted: OnnxInput) -> Embedder:
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingExtra(
            f"the embedder {path.name} needs ONNX Runtime ({exc.name} is missing)", hint='pip install "fusepkg[onnx]"'
        ) from exc
    try:
        data = path.read_bytes()
        session = onnxruntime.InferenceSession(data, providers=onnxruntime.get_available_providers())
    except OSError as exc:
        raise UsageError(f"the embedder {path} cannot be read: {exc.strerror or exc}") from exc
    except Exception as exc:  # its errors have no class in common
        raise PoolUnfit(f"the embedder {path} is no ONNX model that can be run: {_first_line(exc)}") from exc
    channels_first, height, width, batch, kind = _input_of(session, path, wanted)
    name = session.get_inputs()[0].name
    mean, std = np.array(wanted.mean, np.float32), np.array(wanted.std, np.float32)

    def prepare(image: Image.Image) -> Prepared:
        pixels: Any = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.uint8)
        if kind != "tensor(uint8)":
            pixels = (pixels.astype(np.float32) / 255 - mean) / std
        pixels = pixels.astype(np.float16) if kind == "tensor(float16)" else pixels
        return pixels.transpose(2, 0, 1) if channels_first else pixels

    def embed(pictures: Sequence[Prepared]) -> Any:  # noqa: ANN401 - ``vectors`` looks at what it is
        try:
            rows = []
            for at in range(0, len(pictures), batch or len(pictures)):
                part = list(pictures[at : at + batch] if batch else pictures)
                padding = part[-1:] * (batch - len(part))  # a model of a fixed batch takes no smaller one
                found = np.asarray(session.run(None, {name: np.ascontiguousarray(np.stack(part + padding))})[0])
                rows.append(found[: len(part)] if len(found) == len(part) + len(padding) else found)
            return np.concatenate(rows)
        except Exception as exc:  # as above
            raise PoolUnfit(f"the embedder {path} fails: {_first_line(exc)}") from exc

    digest = hashlib.sha256(data + repr((wanted.mean, wanted.std, height, width)).encode()).hexdigest()
    return Embedder(f"onnx:{digest[:32]}", 32, prepare, embed)


def _input_of(session: Any, path: Path, wanted: OnnxInput) -> tuple[bool, int, int, int, str]:  # noqa: ANN401 - no types
    """Return whether channels come first, height, width, pictures at a time (0: any), and the type of the one input."""
    inputs = session.get_inputs()
    shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
    refusal = PoolUnfit(
        f"the embedder {path} takes {shapes or 'nothing'}",
        hint="It must take one tensor of pictures: [N, 3, height, width] or [N, height, width, 3]",
    )
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise refusal
    shape, kind = inputs[0].shape, inputs[0].type
    if kind not in ("tensor(float)", "tensor(float16)", "tensor(uint8)") or 3 not in (shape[1], shape[3]):
        raise refusal
    channels_first = shape[1] == 3
    height, width = shape[2:] if channels_first else shape[1:3]
    sides = [side if isinstance(side, int) and side > 0 else wanted.side for side in (height, width)]
    batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 0
    return channels_first, sides[0], sides[1], batch, kind


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
