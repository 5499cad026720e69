"""How long to wait for publishers who were not first.

Where a server lets several creators succeed, all but the first take their objects back moments later. Meanwhile a key
may seem taken, and then free.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fusepkg.errors import ObjectMissing

if TYPE_CHECKING:
    from fusepkg.store.protocol import ObjectStore

RACE_PAUSE_S, RACE_TRIES = 0.1, 50
"""Look again after so long, so often: taking an object back is two requests."""


def get_after_races(store: ObjectStore, key: str, at_most: int) -> bytes:
    """Return the object under a key that was created there once, after waiting until it is there to stay.

    Where the server lets several creators succeed, the one who was not first takes the own object back moments later,
    and meanwhile there may seem to be none at all. One who was killed in between never does: then that object counts.
    Raises ObjectMissing, ObjectTooLarge, RemoteError.
    """
    for _ in range(RACE_TRIES):
        with suppress(ObjectMissing):
            found = store.head(key)
            if store.stays(found):
                return store.get(key, version=found.version, at_most=at_most)
        time.sleep(RACE_PAUSE_S)
    return store.get(key, at_most=at_most)
