"""The choice of a datapool at its largest: 10,000 of 100,000 vectors of 512 numbers, one at a time.

``python -m bench.choose [CANDIDATES CHOSEN]`` prints seconds, those of CPU, and memory after each tenth. The vectors
are frames of 2,000 scenes, each with variations of its own. Set OPENBLAS_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from fusepkg.pool.choose import choose

SCENES, NUMBERS, VARIATIONS = 2000, 512, 32


def make_vectors(count: int) -> np.ndarray:
    """Return vectors of length 1."""
    random = np.random.default_rng(1)
    scenes = random.standard_normal((SCENES, NUMBERS), dtype=np.float32)
    directions = random.standard_normal((VARIATIONS, NUMBERS), dtype=np.float32) / 15
    vectors = scenes[random.integers(0, SCENES, count)]
    vectors += random.standard_normal((count, VARIATIONS), dtype=np.float32) @ directions
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main(candidates: int, chosen: int) -> None:
    """Choose, and print how it goes."""
    vectors = make_vectors(candidates)
    began, began_cpu = time.perf_counter(), time.process_time()

    def each(count: int) -> None:
        if count % max(1, chosen // 10) == 0:
            seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
            megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            sys.stdout.write(f"{count:,} of {candidates:,}: {seconds:.1f} s, {cpu:.1f} s CPU, {megabytes:.0f} MiB\n")
            sys.stdout.flush()

    choose(vectors, vectors[:0], at_most=chosen, each=each)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3] or ("100000", "10000")))
