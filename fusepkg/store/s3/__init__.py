"""An S3 bucket as an ObjectStore: AWS's own, and servers that speak its protocol.

Owns: every request to S3, both client libraries, and what a server's answers mean. ``S3Store`` is the door: nothing
behind it, and no client library, is imported before the first call.
"""

from fusepkg.store.s3.door import S3Store
from fusepkg.store.s3.settings import S3Settings

__all__ = ["S3Settings", "S3Store"]
