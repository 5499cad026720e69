"""How to reach S3."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach S3. What is None comes from AWS's own sources: environment, profile, instance.

    ``attempts`` tries per request, with backoff between them; an endpoint that does not answer at all is given up
    after ``attempts`` times ``connect_timeout_s`` and a few seconds. ``read_timeout_s`` is the longest silence within
    an answer, ``request_timeout_s`` the longest time for one try with the whole of its answer: a connection that drips
    bytes is never silent.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    sign: bool = True
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    request_timeout_s: float = 300.0
    attempts: int = 3
