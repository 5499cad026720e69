"""Remote bytes: one protocol, and S3, a directory and memory behind it."""
