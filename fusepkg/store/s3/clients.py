"""The clients that one process reads and writes a bucket with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.store.s3 import botocore
from fusepkg.store.s3.exchange import Exchange

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.botocore import ClientSetup
    from fusepkg.store.s3.settings import S3Settings


@dataclass(frozen=True, slots=True)
class Clients:
    """Our own HTTP client for reads and small creates, boto3's for everything else."""

    connection: ClientSetup
    exchange: Exchange

    @property
    def boto(self) -> S3Client:
        """boto3's client."""
        return self.connection.client


def open_clients(address: Address, settings: S3Settings) -> Clients:
    """Make clients for a bucket. Raises CredentialsMissing, UsageError."""
    connection = botocore.connect(settings, address)
    return Clients(connection, Exchange(address.bucket, settings, connection))
