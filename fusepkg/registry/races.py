"""How long to wait for publishers who were not first.

Where a server lets several creators succeed, all but the first take their objects back moments later. Meanwhile a key
may seem taken, and then free.
"""

RACE_PAUSE_S, RACE_TRIES = 0.1, 50
"""Look again after so long, so often: taking an object back is two requests."""
