"""AWS Signature Version 4 of requests to S3."""

from __future__ import annotations

import hmac
import re
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLANKS = re.compile("  +")

NO_BODY_SHA256 = sha256().hexdigest()
"""The digest that requests without a body carry."""


@dataclass(frozen=True, slots=True)
class Keys:
    """An access key, its secret, and the token of a session (or empty)."""

    access_key: str
    secret_key: str
    token: str = ""


class Signer:
    """Signs for one region; keeps the key derived for the day. Not safe for several threads."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._derived_from: tuple[str, str] = ("", "")
        self._key = b""
        self._second = -1
        self._stamp = ""

    def sign(
        self,
        keys: Keys,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body_sha256: str,
        now: float,
    ) -> dict[str, str]:
        """Return all headers to send: those given, which get signed, and those of the signature.

        ``path`` and ``query`` are as they are sent, percent-encoded, parameters in order; ``headers`` have names in
        lower case, ``host`` among them, and values of printable ASCII without blanks at their ends.
        """
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        stamp = self._stamp
        signed = {**headers, "x-amz-content-sha256": body_sha256, "x-amz-date": stamp}
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join([f"{name}:{signed[name]}\n" for name in names])
        if "  " in lines:
            lines = _BLANKS.sub(" ", lines)
        request = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{body_sha256}"
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(keys.secret_key, stamp[:8]), text.encode(), "sha256").hex()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        return signed

    def _key_of(self, secret_key: str, day: str) -> bytes:
        if self._derived_from != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._derived_from = key, (secret_key, day)
        return self._key
