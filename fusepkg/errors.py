"""The errors that fusepkg raises, as one tree, with their stable codes and exit codes.

FusepkgError
  UsageError            InvalidReference, MissingExtra, QueryInvalid, SpecInvalid
  PackageError          BucketNotFound, PackageNotFound, TagNotFound, HashNotFound, HashAmbiguous, EntryNotFound,
                        TagConflict, ManifestInvalid, UnsupportedFormat, PackTableInvalid, RepositoryUnfit
  PublishError          FolderUnfit, FileChanged, ObjectCollision, KeyCollision, LocalFilesRemain,
                        ManifestNotPushed, BuilderUnfit, LabelsUnfit, DataUnfit, PoolUnfit
  RemoteError           ObjectMissing, ObjectArchived, ObjectTooLarge, ObjectExists, CopyUnsupported, AccessDenied,
                        CredentialsMissing, RemoteUnavailable (retryable), RemoteTimeout (retryable), RemoteProtocol
  IntegrityError        DigestMismatch, IndexDamaged
  CacheFailure
  SystemFailure         QueryStopped
  InstallError
  FsError               NoEntry, NotADirectory, IsADirectory, NotASymlink, NoAttribute, BadHandle, ReadOnly,
                        NameTooLong, InvalidArgument
  MountError            MountpointUnfit, MountpointBusy, NotMounted, EngineUnavailable, MountFailed, SwitchUnderWay
  ControlError          DaemonNotRunning, ProtocolMismatch
  TaskError             TaskNotFound, TaskStopped
"""

from __future__ import annotations

from typing import ClassVar


class FusepkgError(Exception):
    """Base of all errors a caller may want to catch.

    ``message`` says what happened and to which object, ``hint`` what to do next (empty if there is nothing to do).
    Programs compare ``code``, which never changes; the command line ends with ``exit_code``. ``retryable`` is True if
    the same call may succeed later without any change.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class UsageError(FusepkgError):
    """The command or call cannot be understood."""

    code = "usage"
    exit_code = 2


class InvalidReference(UsageError):
    """A package reference is not of the form ``[scheme://]bucket/name[:tag][@hash]``."""

    code = "usage.invalid_reference"


class MissingExtra(UsageError, ImportError):
    """A library is not installed that only some users need: ``pip install "fusepkg[name]"``."""

    code = "usage.missing_extra"


class QueryInvalid(UsageError):
    """A query is not a SELECT, or names a table, column or function that is not there."""

    code = "usage.query_invalid"


class SpecInvalid(UsageError):
    """What data should be like cannot be understood: an unknown key, a pattern or a schema that is wrong."""

    code = "usage.spec_invalid"


class PackageError(FusepkgError):
    """A package, version or entry does not exist, or its manifest cannot be used."""

    code = "package"
    exit_code = 3


class BucketNotFound(PackageError):
    """The bucket or the local registry does not exist."""

    code = "package.bucket_not_found"


class PackageNotFound(PackageError):
    """The bucket holds no package of that name."""

    code = "package.not_found"


class TagNotFound(PackageError):
    """The package has no such tag."""

    code = "package.tag_not_found"


class HashNotFound(PackageError):
    """No version of the package has a top hash with this beginning."""

    code = "package.hash_not_found"


class HashAmbiguous(PackageError):
    """Several versions of the package have a top hash with this beginning."""

    code = "package.hash_ambiguous"


class EntryNotFound(PackageError, KeyError):
    """The package has no entry of that logical key."""

    code = "package.entry_not_found"


class TagConflict(PackageError):
    """Another publisher moved the tag first."""

    code = "package.tag_conflict"
    exit_code = 8


class ManifestInvalid(PackageError):
    """The manifest breaks a rule of the format; ``line`` is the offending line, counted from 1 (0: the whole)."""

    code = "package.manifest_invalid"
    exit_code = 9

    def __init__(self, message: str, *, line: int = 0, hint: str = "") -> None:
        super().__init__(f"manifest line {line}: {message}" if line else f"manifest: {message}", hint=hint)
        self.line = line


class UnsupportedFormat(PackageError):
    """A manifest, index or hash of a kind this version does not know."""

    code = "package.unsupported_format"
    exit_code = 9


class PackTableInvalid(PackageError):
    """The table of a version's packs is damaged, or of another version; its objects are read instead."""

    code = "package.pack_table_invalid"
    exit_code = 9


class RepositoryUnfit(PackageError):
    """A git or DVC repository, or a file in it, does not say what it has to, or says what fusepkg cannot read."""

    code = "package.repository_unfit"
    exit_code = 9


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


class RemoteError(FusepkgError):
    """A request to object storage failed."""

    code = "remote"
    exit_code = 5


class ObjectMissing(RemoteError):
    """The object is not there."""

    code = "remote.object_missing"
    exit_code = 3


class ObjectArchived(RemoteError):
    """The object lies in an archive and cannot be read before it is restored."""

    code = "remote.object_archived"


class ObjectTooLarge(RemoteError):
    """The object is larger than the limit for its kind."""

    code = "remote.object_too_large"


class ObjectExists(RemoteError):
    """A conditional create found an object under the key."""

    code = "remote.object_exists"
    exit_code = 8


class CopyUnsupported(RemoteError):
    """The bucket's server cannot copy the object from where it is."""

    code = "remote.copy_unsupported"


class AccessDenied(RemoteError):
    """The credentials are wrong, expired, or do not allow the request."""

    code = "remote.access_denied"
    exit_code = 4


class CredentialsMissing(AccessDenied):
    """No credentials were found."""

    code = "remote.credentials_missing"


class RemoteUnavailable(RemoteError):
    """The endpoint cannot be reached or keeps failing."""

    code = "remote.unavailable"
    retryable = True


class RemoteTimeout(RemoteUnavailable):
    """The endpoint did not answer in time."""

    code = "remote.timeout"


class RemoteProtocol(RemoteError):
    """The endpoint sent an invalid answer, such as a range of the wrong length."""

    code = "remote.protocol"


class IntegrityError(FusepkgError):
    """Bytes do not have the hash they should have."""

    code = "integrity"
    exit_code = 6


class DigestMismatch(IntegrityError):
    """An object's bytes do not hash to what the manifest says."""

    code = "integrity.digest_mismatch"


class IndexDamaged(IntegrityError):
    """The local index of a package fails its checksums."""

    code = "integrity.index_damaged"


class CacheFailure(FusepkgError):
    """The local cache cannot be used."""

    code = "cache"
    exit_code = 11


class SystemFailure(FusepkgError):
    """The operating system refused something: a full disk, a closed output, a file that may not be read."""

    code = "system"
    exit_code = 14


class QueryStopped(SystemFailure):
    """A query was stopped at its deadline, or because it needed more memory than it may have."""

    code = "system.query_stopped"


class InstallError(FusepkgError):
    """A package cannot be written into a directory, or only in part. Files that are there already stay."""

    code = "install"
    exit_code = 13


class FsError(FusepkgError):
    """A file-system call failed."""

    code = "fs"


class NoEntry(FsError):
    """No such file or directory."""

    code = "fs.no_entry"


class NotADirectory(FsError):
    """A directory was needed."""

    code = "fs.not_a_directory"


class IsADirectory(FsError):
    """A file was needed."""

    code = "fs.is_a_directory"


class NotASymlink(FsError):
    """A symbolic link was needed."""

    code = "fs.not_a_symlink"


class NoAttribute(FsError):
    """No such extended attribute."""

    code = "fs.no_attribute"


class BadHandle(FsError):
    """The mount has no such inode or handle."""

    code = "fs.bad_handle"


class ReadOnly(FsError):
    """Packages cannot be written to."""

    code = "fs.read_only"


class NameTooLong(FsError):
    """A name is longer than 255 bytes."""

    code = "fs.name_too_long"


class InvalidArgument(FsError):
    """An offset or length is invalid."""

    code = "fs.invalid_argument"


class MountError(FusepkgError):
    """A mount cannot be made or ended."""

    code = "mount"
    exit_code = 7


class MountpointUnfit(MountError):
    """The mountpoint is missing, not an empty directory, or mounted already."""

    code = "mount.mountpoint_unfit"


class MountpointBusy(MountError):
    """A program still uses the mount."""

    code = "mount.busy"


class NotMounted(MountError):
    """No mount of fusepkg is there."""

    code = "mount.not_mounted"


class EngineUnavailable(MountError):
    """The engine cannot run here: no /dev/fuse, no root, an older kernel."""

    code = "mount.engine_unavailable"


class MountFailed(MountError):
    """The kernel or the daemon refused the mount for another reason."""

    code = "mount.failed"


class SwitchUnderWay(MountError):
    """A mount is being switched to another version already."""

    code = "mount.switch_under_way"


class ControlError(FusepkgError):
    """The daemon of a mount does not answer as expected."""

    code = "control"
    exit_code = 12


class DaemonNotRunning(ControlError):
    """The mount's daemon is gone."""

    code = "control.daemon_not_running"


class ProtocolMismatch(ControlError):
    """The daemon speaks another version of the control protocol."""

    code = "control.protocol_mismatch"


class TaskError(FusepkgError):
    """A task failed, or cannot be run."""

    code = "task"
    exit_code = 15


class TaskNotFound(TaskError):
    """The bucket has no task of that number."""

    code = "task.not_found"
    exit_code = 3


class TaskStopped(TaskError):
    """A task was cancelled, or another worker has taken it over."""

    code = "task.stopped"
