"""A real HTTP proxy before a real S3 server: writes down every request, and spoils those a fault plan names.

Requests and their Host header pass unchanged, so signatures hold. See tests/README.md for its use.
"""

from tests.proxy.faults import (
    ACCESS_DENIED,
    EXPIRED_TOKEN,
    INTERNAL_ERROR,
    NO_SUCH_BUCKET,
    NO_SUCH_KEY,
    NO_SUCH_VERSION,
    SLOW_DOWN,
    Answer,
    Corrupt,
    Drip,
    Fault,
    Reset,
    ShiftRange,
    Stall,
    Truncate,
    WholeObject,
)
from tests.proxy.plan import Request, Rule
from tests.proxy.server import Proxy

__all__ = [
    "ACCESS_DENIED",
    "EXPIRED_TOKEN",
    "INTERNAL_ERROR",
    "NO_SUCH_BUCKET",
    "NO_SUCH_KEY",
    "NO_SUCH_VERSION",
    "SLOW_DOWN",
    "Answer",
    "Corrupt",
    "Drip",
    "Fault",
    "Proxy",
    "Request",
    "Reset",
    "Rule",
    "ShiftRange",
    "Stall",
    "Truncate",
    "WholeObject",
]
