"""A program that puts and removes blobs in four threads, and tells which were put: to be killed or copied."""

from __future__ import annotations

BUSY = """
import itertools, random, sys, threading
from pathlib import Path
from fusepkg_cache import Cache, verified
from tests.unit.cache.blobs import LARGE, SMALL, blob

cache = Cache(Path(sys.argv[1]))
start = 1 + int(sys.argv[2])
lock = threading.Lock()

def tell(*blobs):
    with lock:
        for size, seed in blobs:
            print(size, seed, flush=True)

def work(number):
    for step in itertools.count():
        seed = start + number * 1000 + step
        if number == 3:
            cache.put_many([verified(*blob(size, seed)) for size in (SMALL, LARGE, 0 + step)])
            cache.put_pieces(blob(LARGE, seed + 1)[0], [blob(LARGE, seed + 1)[1]])
            tell((SMALL, seed), (LARGE, seed), (step, seed), (LARGE, seed + 1))
        else:
            size = (SMALL, LARGE, 100)[number]
            cache.put(*blob(size, seed))
            cache.remove(blob(size, -seed)[0])
            tell((size, seed))

for number in range(4):
    threading.Thread(target=work, args=(number,)).start()
"""
