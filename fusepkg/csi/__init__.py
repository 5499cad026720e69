"""The driver by which Kubernetes mounts packages: identity and node services of the Container Storage Interface."""
