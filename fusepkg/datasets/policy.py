"""Who may read or change a dataset: the statements of a bucket policy, which take the place of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusepkg.errors import UsageError
from fusepkg.registry import layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusepkg.model.reference import Reference

_READ = ["s3:GetObject", "s3:GetObjectVersion"]
_WRITE = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObjectVersion"]
"""The last is asked for only where a server lets two creators succeed, who then take their own versions back."""


def access_policy(reference: Reference, *, write: bool, principals: Sequence[str]) -> dict[str, Any]:
    """Return a policy for the bucket of a dataset: ``principals`` (ARNs; everybody if none) may read it, or change it.

    It covers the dataset's own keys. Objects that it only refers to lie elsewhere, and have rules of their own.
    Raises UsageError for a dataset that lies in no bucket of S3, and for one that everybody could change.
    """
    if write and not principals:
        raise UsageError(f"anybody at all could change {reference.package}", hint="Say who may, with --principal ARN")
    if reference.bucket.scheme != "s3":
        raise UsageError(
            f"{reference.package} lies in no bucket of S3", hint="Who may read it there, the file system says"
        )
    bucket = f"arn:aws:s3:::{reference.bucket.place}"
    name = reference.name
    own = [layout.package_prefix(name), layout.tags_prefix(name), f"{name}/"]
    shared = [f"{layout.ROOT}chunks/", f"{layout.ROOT}packs/"]
    who: Any = {"AWS": list(principals)} if principals else "*"
    lists = ["s3:ListBucket", "s3:ListBucketVersions"] if write else ["s3:ListBucket"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": who,
                "Action": _READ + (_WRITE if write else []),
                "Resource": [f"{bucket}/{prefix}*" for prefix in own + shared],
            },
            {"Effect": "Allow", "Principal": who, "Action": lists, "Resource": [bucket]},
        ],
    }
