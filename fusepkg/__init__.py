"""fusepkg: immutable versions of datasets in object storage, mounted as plain read-only directories."""

__version__ = "0.1.0"
