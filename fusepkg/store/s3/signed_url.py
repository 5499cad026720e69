"""Addresses of objects that carry their own signature: whoever has one can read the object for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from fusepkg.store.s3.botocore import translated

if TYPE_CHECKING:
    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.botocore import ClientSetup


def signed_url(connection: ClientSetup, address: Address, version: str | None, expires_s: int) -> str:
    """Return it, by Signature Version 4, which buckets of every age take; unsigned where requests are.

    boto3's own method would sign by version 2 in some regions. Raises CredentialsMissing.
    """
    parts = urlsplit(connection.endpoint)
    host, path = parts.netloc, f"{parts.path.rstrip('/')}/{quote(address.key, safe='/-_.~')}"
    if connection.virtual:
        host = f"{address.bucket}.{host}"
    else:
        path = f"{parts.path.rstrip('/')}/{address.bucket}/{quote(address.key, safe='/-_.~')}"
    query = f"?versionId={quote(version, safe='-_.~')}" if version is not None else ""
    url = f"{parts.scheme}://{host}{path}{query}"
    if connection.credentials is None:
        return url
    with translated(address):
        request = AWSRequest("GET", url=url)
        keys = connection.credentials.get_frozen_credentials()
        S3SigV4QueryAuth(keys, "s3", connection.region, expires=expires_s).add_auth(request)
    return str(request.url)
