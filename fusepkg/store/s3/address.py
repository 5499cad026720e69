"""Which object a request is about, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

Action: TypeAlias = Literal["read", "write", "copy"]
"""What was tried, as far as the hint of a refusal depends on it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket, or an object in it where ``key`` is not empty, at an endpoint; for requests and for messages."""

    bucket: str
    key: str
    endpoint: str
    signed: bool = True
    action: Action = "read"

    @property
    def url(self) -> str:
        """``s3://bucket`` or ``s3://bucket/key``, for messages: nothing is escaped."""
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"

    @property
    def names(self) -> dict[str, Any]:
        """Bucket and key, as boto3 wants them."""
        return {"Bucket": self.bucket, "Key": self.key}

    @property
    def server(self) -> str:
        """The endpoint without a user name or password somebody may have put into it."""
        if not self.endpoint:
            return "AWS"
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
