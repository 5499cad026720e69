"""Object storage: one protocol, for a bucket, a directory, or memory.

Owns: every request to a bucket, its retries and its errors. No other package imports an S3 client.
"""
