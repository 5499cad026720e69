"""Pipelines: the stages of a `dvc.yaml`, run when what they depend on has changed, and noted in its `dvc.lock`."""
