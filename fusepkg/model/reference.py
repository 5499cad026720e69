"""What a user types to name a package: ``[scheme://]bucket/name[:tag][@hash]``.

A DVC repository is named ``dvc+PATH_OR_GIT_URL[@REV][//SUBDIR]``, and with it a package: what DVC tracks there. Its
registry is one that this machine makes of the repository; REV takes the place of the tag.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from fusepkg.errors import InvalidReference

DEFAULT_TAG = "latest"
DVC = "dvc"
"""The scheme of the registries that are made of DVC repositories."""

DEFAULT_REVISION = "HEAD"
LOCAL_BUCKET = "local"
"""Without a scheme, this bucket is the embedded registry and not an S3 bucket."""

_FORM = "A reference is [scheme://]bucket/name[:tag][@hash], for example my-bucket/my-dataset:v1"
_DVC_FORM = "Write dvc+PATH_OR_GIT_URL[@REV][//DIRECTORY], for example dvc+https://example.com/registry@v1//raw"
_TAG_FORM = "A tag has letters, digits, '_', '-' and '.'"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_NAME_PART = re.compile(r"[\w-][\w.-]{0,127}")
_TAG = re.compile(r"[\w-][\w.-]{0,127}")
_HASH = re.compile(r"[0-9a-f]{6,64}")
_DVC = re.compile(r"(?P<rest>.*?)(?:@(?P<top_hash>[0-9a-f]{64}))?", re.DOTALL)
_AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*|(?:[\w.-]+@)?[\w.-]+(?=:(?!//))")
"""Where the host and user of a git URL stand: there ``@`` does not begin a revision."""

_NO_CREDENTIALS = re.compile(r"(?:ssh|git\+ssh)://[^/:@]+@.*|[^:]*://[^/@]*(?:/.*)?|(?!.*://).*", re.DOTALL)
_REVISION = re.compile(r"(?!-)[^\x00-\x20\x7f:?*\[\\]+")


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """Where a registry lies. ``scheme`` is ``s3``, ``file`` or ``local``; ``place`` the bucket or directory.

    With the scheme ``dvc`` it is a git repository's URL or absolute path, and perhaps ``//`` and a directory in it.
    """

    scheme: str
    place: str

    def __str__(self) -> str:
        if self.scheme == LOCAL_BUCKET:
            return LOCAL_BUCKET
        if self.scheme == "s3" and self.place != LOCAL_BUCKET:
            return self.place
        return f"dvc+{self.place}" if self.scheme == DVC else f"{self.scheme}://{self.place}"


@dataclass(frozen=True, slots=True)
class Reference:
    """One package, and which of its versions: ``top_hash`` (6 to 64 hex digits) wins over ``tag``."""

    bucket: BucketUrl
    name: str
    tag: str = DEFAULT_TAG
    top_hash: str | None = None

    @property
    def package(self) -> str:
        """The package without a version, as a user writes it."""
        if self.bucket.scheme == DVC:
            return str(self.bucket)
        separator = "//" if self.bucket.scheme == "file" and "/" in self.name else "/"
        return f"{str(self.bucket).rstrip('/')}{separator}{self.name}"

    def __str__(self) -> str:
        if self.bucket.scheme == DVC and not self.top_hash:
            repository, directory = split_place(self.bucket.place)
            return f"dvc+{repository}@{self.tag}{directory and f'//{directory}'}"
        return f"{self.package}@{self.top_hash}" if self.top_hash else f"{self.package}:{self.tag}"


def split_place(place: str) -> tuple[str, str]:
    """Return the repository of a registry made of one, and the directory in it; that is empty for all of it."""
    at = place.find("//", _scheme_end(place))
    return (place, "") if at < 0 else (place[:at], place[at + 2 :])


def parse_dvc_reference(text: str) -> Reference:
    """Read ``dvc+PATH_OR_GIT_URL[@REV][//SUBDIR][@HASH]``; raises InvalidReference, never repeating credentials.

    A path is taken relative to the working directory. ``@HASH`` has all 64 digits of a top hash.
    """
    found = _DVC.fullmatch(text.removeprefix("dvc+"))
    assert found is not None, "the pattern takes any text"
    repository, directory = split_place(found["rest"])
    refuse_credentials(repository)
    authority = _AUTHORITY.match(repository)
    start = authority.end() if authority else 0
    path, at, revision = repository[start:].rpartition("@")
    repository, revision = (repository[:start] + path, revision) if at else (repository, DEFAULT_REVISION)
    directory = directory.strip("/")
    if not repository or not _REVISION.fullmatch(revision):
        raise InvalidReference(f"{text!r} names no revision of a DVC repository", hint=_DVC_FORM)
    if directory and any(part in ("", ".", "..") for part in directory.split("/")):
        raise InvalidReference(f"{directory!r} is not a directory of a repository", hint=_DVC_FORM)
    if authority is None:
        repository = os.path.abspath(os.path.expanduser(repository))
    name = re.sub(r"[^\w.-]", "-", (directory or repository.rstrip("/").removesuffix(".git")).rpartition("/")[2])
    place = f"{repository}//{directory}" if directory else repository
    return Reference(BucketUrl(DVC, place), f"{name.lstrip('.')[:64] or 'repository'}", revision, found["top_hash"])


def refuse_credentials(url: str) -> None:
    """Raise InvalidReference for a git URL with a password or a token; they are not repeated."""
    if not _NO_CREDENTIALS.fullmatch(url):
        raise InvalidReference(
            "the git URL holds a user name or a password",
            hint="Leave them to git: `git help credentials`, or an SSH key. Else they show in lists of mounts and logs",
        )


def _scheme_end(text: str) -> int:
    return text.find("://") + 3 if "://" in text else 0


def parse_bucket(text: str) -> BucketUrl:
    """Read a bucket as a user names it; raises InvalidReference."""
    if text.startswith(f"{DVC}+"):
        place = text.removeprefix(f"{DVC}+")
        refuse_credentials(place)
        repository, directory = split_place(place)
        if not _AUTHORITY.match(place):
            repository = os.path.abspath(os.path.expanduser(repository))
        return BucketUrl(DVC, f"{repository}//{directory}" if directory else repository)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = (LOCAL_BUCKET if text == LOCAL_BUCKET else "s3"), text
    if scheme == LOCAL_BUCKET:
        return BucketUrl(LOCAL_BUCKET, "")
    if scheme == "file":
        if not rest.startswith("/") or "\0" in rest:
            raise InvalidReference(f"{text!r} does not name an absolute directory", hint="Write file:///any/dir/")
        return BucketUrl("file", rest.rstrip("/") or "/")
    if scheme != "s3":
        raise InvalidReference(f"{text!r} has the unknown scheme {scheme!r}", hint="Use s3:// or file://")
    if not _BUCKET.fullmatch(rest):
        raise InvalidReference(f"{rest!r} is not a bucket name", hint=_FORM)
    return BucketUrl("s3", rest)


def parse_reference(text: str) -> Reference:
    """Read a reference; raises InvalidReference, naming the part that is wrong.

    In a ``file://`` reference the last part of the path is the name; ``file:///dir//namespace/name`` gives a name
    with a namespace.
    """
    if text.startswith("dvc+"):
        return parse_dvc_reference(text)
    path, at, top_hash = text.partition("@") if "@" in text.rpartition("/")[2] else (text, "", "")
    if at and not _HASH.fullmatch(top_hash):
        raise InvalidReference(f"{top_hash!r} is not a hash", hint="Write 6 to 64 lower-case hex digits after @")
    head, slash, last = path.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon:
        parse_tag(tag)
    if not slash or not last:
        raise InvalidReference(f"{text!r} names no package", hint=_FORM)
    bucket, name = _split_bucket(f"{head}/{last}", text)
    if name.count("/") > 1 or not all(_NAME_PART.fullmatch(part) for part in name.split("/")):
        raise InvalidReference(f"{name!r} is not a package name", hint="Write dataset or namespace/dataset")
    return Reference(bucket, name, tag or DEFAULT_TAG, top_hash or None)


def parse_tag(text: str) -> str:
    """A tag as a user names it, without its package; raises InvalidReference."""
    if not _TAG.fullmatch(text):
        raise InvalidReference(f"{text!r} is not a tag", hint=_TAG_FORM)
    return text


def _split_bucket(path: str, text: str) -> tuple[BucketUrl, str]:
    scheme, separator, rest = path.partition("://")
    if separator and scheme == "file":
        directory, double, name = rest[1:].partition("//")
        if not double:
            directory, _, name = rest[1:].rpartition("/")
        return parse_bucket(f"file:///{directory}"), name
    bucket, slash, name = (rest if separator else path).partition("/")
    if not slash or not bucket or not name:
        raise InvalidReference(f"{text!r} names no package", hint=_FORM)
    return parse_bucket(f"{scheme}://{bucket}" if separator else bucket), name
