"""Whatever an embedder gives, it is one row of length 1 a picture, or an error that says what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusepkg.errors import MissingExtra, PoolUnfit, UsageError
from fusepkg.pool.config import OnnxInput, PoolConfig, Selection
from fusepkg.pool.embedders import Embedder, open_embedder
from tests.onnx_models import UINT8, write_model
from tests.videos import scene

PICTURES = [Image.fromarray(scene("street", time)) for time in range(5)]


def opened(embedder: str, **onnx: Any) -> Embedder:
    return open_embedder(
        PoolConfig(source="a", target="b", embedder=embedder, selection=Selection(), onnx=OnnxInput(**onnx))
    )


def rows(embedder: Embedder, pictures: list[Image.Image] = PICTURES) -> np.ndarray:
    return embedder.vectors([embedder.prepare(one) for one in pictures])


def test_the_built_in_one_sees_colours_and_edges() -> None:
    found = rows(opened("histogram"))
    assert found.shape == (5, 128)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    alike = Image.fromarray(scene("street", 0.05))
    other = Image.fromarray(scene("harbour", 0))
    near, far = rows(opened("histogram"), [alike, other])
    assert np.linalg.norm(found[0] - near) < 0.2 < np.linalg.norm(found[0] - far)
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[::8] = 255
    lying, standing = rows(opened("histogram"), [Image.fromarray(lines), Image.fromarray(lines.transpose(1, 0, 2))])
    assert np.linalg.norm(lying - standing) > 0.2


@pytest.mark.parametrize("shape", [["n", 3, 8, 8], [1, 3, 8, 8], [4, 3, 8, 8], ["n", 3, "h", "w"]])
def test_a_model(tmp_path: Path, shape: list[int | str]) -> None:
    """It gives the mean of each channel."""
    model = write_model(tmp_path / "mean.onnx", shape)
    found = rows(opened(str(model), side=8))
    means = np.stack([np.asarray(one.resize((8, 8), Image.Resampling.BILINEAR)).mean((0, 1)) for one in PICTURES])
    assert np.allclose(found, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)
    shifted = rows(opened(str(model), side=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0)))
    moved = (means / 255 - 0.5) / (0.25, 0.5, 1.0)
    assert np.allclose(shifted, moved / np.linalg.norm(moved, axis=1, keepdims=True), atol=1e-4)
    assert opened(str(model), side=8).identity != opened(str(model), side=8, std=(2.0, 1.0, 1.0)).identity


def test_a_model_of_bytes_with_channels_last(tmp_path: Path) -> None:
    model = write_model(tmp_path / "flat.onnx", ["n", 8, 8, 3], ("Flatten",), kind=UINT8)
    assert rows(opened(str(model))).shape == (5, 192)


@pytest.mark.parametrize("shape", [["n", 10], [1, 1, 8, 8], ["n", 3, 8], ["n", 3, 4, 8, 8], []])
def test_a_model_of_the_wrong_shape_is_refused(tmp_path: Path, shape: list[int | str]) -> None:
    model = write_model(tmp_path / "wrong.onnx", shape, ("Identity",), result=(shape, 1))
    with pytest.raises(PoolUnfit, match=r"wrong\.onnx takes x tensor\(float\) .*It must take one tensor of pictures"):
        opened(str(model))


def test_a_model_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(PoolUnfit, match=r"text\.onnx is no ONNX model"):
        opened(str(tmp_path / "text.onnx"))
    with pytest.raises(UsageError, match=r"none\.onnx cannot be read: No such file"):
        opened(str(tmp_path / "none.onnx"))


def test_a_model_that_fails_or_gives_one_row_for_all(tmp_path: Path) -> None:
    model = write_model(tmp_path / "one.onnx", ["n", 3, 8, 8], ("ReduceMean",), result=([1, 1, 1, 1], 1))
    with pytest.raises(PoolUnfit, match="one row of numbers for each picture"):
        rows(opened(str(model)))


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r'pip install "fusepkg\[onnx\]"'):
        opened("model.onnx")


def test_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_embedder.py").write_text(
        "import numpy as np\n"
        "def mean(pictures):\n"
        "    return [picture.mean(axis=(0, 1)) for picture in pictures]\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    embedder = opened("my_embedder:mean")
    assert embedder.identity == "python:my_embedder:mean"
    assert rows(embedder).shape == (5, 3)
    for name, message in {
        "my_embedder:number": "is no function",
        "my_embedder:none": "is not there",
        "no_such_module:f": "cannot be imported",
        "resnet50": "is not known",
    }.items():
        with pytest.raises(UsageError, match=message):
            opened(name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda pictures: [1.0] * len(pictures), "an array of shape"),
        (lambda pictures: [[1.0]], "for 5 pictures of a picture"),
        (lambda pictures: [[]] * len(pictures), "an array of shape"),
        (lambda pictures: [[float("nan")]] * len(pictures), "not finite"),
        (lambda pictures: [["text"]] * len(pictures), "no array of numbers"),
        (lambda pictures: [[1.0], [1.0, 2.0]], "no array of numbers"),
        (lambda pictures: None, "an array of shape|no array"),
    ],
)
def test_a_function_that_gives_something_else(given: Any, message: str) -> None:
    config = PoolConfig(source="a", target="b", selection=Selection())
    with pytest.raises(PoolUnfit, match=message):
        rows(open_embedder(config, given))
