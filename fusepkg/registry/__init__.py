"""Manifests and tags in a bucket: where they lie, how a reference is resolved, how a tag moves."""
