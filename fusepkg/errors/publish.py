"""What cannot be published as it is."""

from __future__ import annotations

from fusepkg.errors.base import FusepkgError


class PublishError(FusepkgError):
    """A folder or a builder cannot be published as it is."""

    code = "publish"
    exit_code = 10


class FolderUnfit(PublishError):
    """The folder holds files that a package cannot hold: sockets, unreadable files, names that are not UTF-8."""

    code = "publish.folder_unfit"


class FileChanged(PublishError):
    """A file changed while it was read."""

    code = "publish.file_changed"
    retryable = True


class ObjectCollision(PublishError):
    """The bucket holds other bytes under every key the object could get."""

    code = "publish.object_collision"


class KeyCollision(PublishError):
    """Two entries of a version being made would have one name."""

    code = "publish.key_collision"


class LocalFilesRemain(PublishError):
    """A version being made still names files of this machine."""

    code = "publish.local_files_remain"


class ManifestNotPushed(PublishError):
    """The manifest of a version being made is on this machine only."""

    code = "publish.manifest_not_pushed"


class BuilderUnfit(PublishError):
    """The file that describes a version being made is missing, damaged, in use, or there already."""

    code = "publish.builder_unfit"


class LabelsUnfit(PublishError):
    """Labels cannot be taken: one without an img_id or a picture, two of one fingerprint, a file that is no JSON."""

    code = "publish.labels_unfit"


class DataUnfit(PublishError):
    """Data cannot be part of a dataset: no picture, no video, an object that may not be read, JSON of another form."""

    code = "publish.data_unfit"


class PoolUnfit(PublishError):
    """A datapool cannot be run: its embedder gives nothing to compare, or another run of it is under way."""

    code = "publish.pool_unfit"
