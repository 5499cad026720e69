"""The clients that one process reads and writes a bucket with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.store.s3 import botocore, obstore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.botocore import Connection
    from fusepkg.store.s3.obstore import Creator, Reader
    from fusepkg.store.s3.settings import S3Settings


@dataclass(frozen=True, slots=True)
class Clients:
    """boto3's client for everything, obstore's for small reads and creates: None where obstore cannot run.

    ``generation`` is the one of the credentials that obstore was given.
    """

    connection: Connection
    reader: Reader | None
    creator: Creator | None
    generation: int

    @property
    def boto(self) -> S3Client:
        """boto3's client."""
        return self.connection.client


def open_clients(address: Address, settings: S3Settings) -> Clients:
    """Make clients for a bucket. Raises CredentialsMissing, UsageError."""
    connection = botocore.connect(settings, address)
    return with_obstore(connection, address, settings)


def with_obstore(connection: Connection, address: Address, settings: S3Settings) -> Clients:
    """Make obstore's clients beside boto3's, which stays.

    Behind a proxy there are none: obstore would follow redirects through it, session token included. It also follows
    them to another port of the endpoint's host. Over https that port has to show the host's certificate; over http
    anybody may listen there, so a session token is sent by boto3 alone.
    """
    generation = connection.credentials.generation if connection.credentials else 0
    if connection.proxied or not obstore.runs_here() or not obstore.may_send_credentials(connection):
        return Clients(connection, None, None, generation)
    reader = obstore.Reader(address.bucket, settings, connection)
    return Clients(connection, reader, obstore.Creator(address.bucket, settings, connection), generation)
