"""ONNX models of one or two nodes, encoded here: the library that writes them is larger than what reads them."""

from __future__ import annotations

from pathlib import Path

FLOAT, UINT8 = 1, 2


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value(name: str, kind: int, shape: list[int | str]) -> bytes:
    dims = b"".join(_field(1, _field(1, one) if isinstance(one, int) else _field(2, one)) for one in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dims)))


def write_model(
    path: Path,
    shape: list[int | str],
    nodes: tuple[str, ...] = ("GlobalAveragePool", "Flatten"),
    *,
    kind: int = FLOAT,
    result: tuple[list[int | str], int] | None = None,
) -> Path:
    """A model that takes a tensor ``x`` of that shape through nodes without settings: the mean of each channel."""
    names = ["x", *(f"y{number}" for number in range(len(nodes)))]
    graph = b"".join(
        _field(1, _field(1, names[number]) + _field(2, names[number + 1]) + _field(4, node))
        for number, node in enumerate(nodes)
    )
    out_shape, out_kind = result or (["n", "d"], kind)
    graph += (
        _field(2, "graph") + _field(11, _value("x", kind, shape)) + _field(12, _value(names[-1], out_kind, out_shape))
    )
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 13)))
    return path
