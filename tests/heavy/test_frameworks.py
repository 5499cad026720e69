"""JAX and TensorFlow are fed by the stream of samples, and TensorFlow reads the shards that the example makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from fusepkg import PackageBuilder
from tests.published import registry as registry
from tests.unit.training.conftest import COUNT, publish_samples

ROOT = Path(__file__).parents[2]

STREAM = """
import itertools, json, sys
import numpy as np
from fusepkg.training import SampleStream

def stream(**options):
    return SampleStream("local/samples:v1", prefix="train/", shuffle=True, seed=1, load=load, **options)
"""

JAX = """
import jax

def load(entry, data):
    return np.int32(data)

@jax.jit
def doubled(batch):
    return batch * 2

def epoch(samples):
    samples = iter(samples)
    while batch := list(itertools.islice(samples, 32)):
        yield from doubled(jax.device_put(np.stack(batch))).tolist()

ours = stream(rank=jax.process_index(), world=jax.process_count())
print(json.dumps([list(epoch(ours)), list(epoch(ours))]))
"""

TENSORFLOW = """
import tensorflow as tf

def load(entry, data):
    return data

ours = stream()
dataset = tf.data.Dataset.from_generator(lambda: ours, output_signature=tf.TensorSpec((), tf.string))
dataset = dataset.map(lambda data: tf.strings.to_number(data, tf.int32) * 2).batch(32).prefetch(2)
print(json.dumps([[int(number) for batch in dataset for number in batch] for _ in range(2)]))
"""

RECORDS = """
import sys
import tensorflow as tf

wanted = {"image": tf.io.FixedLenFeature((), tf.string), "label": tf.io.FixedLenFeature((), tf.string)}
for record in tf.data.TFRecordDataset(sys.argv[1]):
    example = tf.io.parse_single_example(record, wanted)
    pixels = tf.io.decode_jpeg(example["image"])
    print(example["label"].numpy().decode(), *pixels.shape)
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("frameworks")
    publish_samples(base)
    return base


def run(program: str, *arguments: object) -> str:
    """Run a program of its own: both libraries have threads that a process does not get rid of."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(library: str) -> pytest.MarkDecorator:
    reason = f"{library} is not in this environment: make test-heavy"
    return pytest.mark.skipif(find_spec(library) is None, reason=reason)


@pytest.mark.parametrize(
    "program", [pytest.param(JAX, marks=needs("jax")), pytest.param(TENSORFLOW, marks=needs("tensorflow"))]
)
def test_each_epoch_has_all_samples_in_its_order(program: str) -> None:
    first, second = json.loads(run(STREAM + program).splitlines()[-1])
    assert sorted(first) == sorted(second) == [2 * number for number in range(COUNT)]
    assert first != second
    numbers = "print(json.dumps([[2 * n for n in numbers] for numbers in (list(ours), list(ours))]))"
    plain = run(f"{STREAM}\ndef load(entry, data):\n    return int(data)\n\nours = stream()\n{numbers}")
    assert json.loads(plain) == [first, second]


@needs("tensorflow")
def test_tensorflow_reads_the_shards_of_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    from transforms import tfrecord_shard

    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
    builder = PackageBuilder("local/pictures", quiet=True)
    for number in range(3):
        Image.new("RGB", (30 + number, 20)).save(path := tmp_path / f"{number}.jpg")
        builder.set(path.name, path).set_meta(path.name, {"label": f"label {number}"})
    package = builder.push_data_and_manifest(tag="v1")
    made = package.map(tfrecord_shard, out="local/records:v1", executor="threads", by=3).package
    (shard := tmp_path / "0.tfrecord").write_bytes(made.get("0.tfrecord"))
    assert run(RECORDS, shard).splitlines() == [f"label {n} 20 {30 + n} 3" for n in range(3)]
