"""A small HTTP/1.1 client for S3: keep-alive connections on the process's own asyncio loop, and signed requests.

It never follows a redirect, keeps no more of a body than was asked for, and gives no bytes of an answer that is not
whole.
"""
