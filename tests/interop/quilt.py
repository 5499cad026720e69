"""The real quilt3, run as a program of its own: its home, its settings, no word to its makers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.command import run_source

TIMEOUT_S = 120.0
"""A call takes a few seconds; past this it hangs."""

FIRST_PUSH_S = 1_700_000_000
"""When the first push of a test happens, in seconds since 1970."""

_PRELUDE = '''
import base64, hashlib, json, os, sys, types, warnings
warnings.simplefilter("ignore")
import quilt3, quilt3.backends.base, quilt3.hooks

# Pushes are named by their second: the test says which one, and need not wait for the next.
quilt3.backends.base.time = types.SimpleNamespace(time=lambda: arguments["now"])

def encoded(digest):
    return base64.b64encode(digest).decode()

def digest_of(parameters):
    body = parameters["Body"]
    if not isinstance(body, bytes):
        body = parameters["Body"] = body.read()
    return hashlib.sha256(body).digest()

def with_checksums(build, session, parameters, **options):
    """A client for servers that compute no SHA-256 of what they are sent: the answers say what AWS would."""
    client = build(session, parameters, **options)
    put, part, complete = client.put_object, client.upload_part, client.complete_multipart_upload

    def put_object(**parameters):
        digest = digest_of(parameters)
        return put(**parameters) | {"ChecksumSHA256": encoded(digest)}

    def upload_part(**parameters):
        digest = digest_of(parameters)
        return part(**parameters) | {"ChecksumSHA256": encoded(digest)}

    def complete_multipart_upload(**parameters):
        parts = parameters["MultipartUpload"]["Parts"]
        digests = b"".join(base64.b64decode(part["ChecksumSHA256"]) for part in parts)
        whole = encoded(hashlib.sha256(digests).digest())
        return complete(**parameters) | {"ChecksumSHA256": f"{whole}-{len(parts)}"}

    client.put_object, client.upload_part = put_object, upload_part
    client.complete_multipart_upload = complete_multipart_upload
    return client

arguments = json.loads(sys.stdin.read())
quilt3.hooks.set_build_s3_client_hook(with_checksums)
if arguments["version"] != 1:
    quilt3.config(default_registry_version=arguments["version"])

def answer(value):
    print("ANSWER", json.dumps(value))
'''


def run_quilt3(program: str, *, version: int = 1, now: int = FIRST_PUSH_S, **arguments: Any) -> Any:
    """Run lines of Python with ``quilt3`` imported; they find ``arguments`` and give a JSON value to ``answer``.

    ``version`` is that of its registries; ``now`` the second a push believes it is.
    """
    given = json.dumps(arguments | {"version": version, "now": now}, default=os.fspath)
    done = run_source(_PRELUDE + program, given, Path(os.environ["HOME"]), TIMEOUT_S)
    answers = [line.removeprefix("ANSWER ") for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    if done.returncode != 0 or len(answers) != 1:
        pytest.fail(f"quilt3 ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return json.loads(answers[0])


PUBLISH = """
package = quilt3.Package()
package.set_dir("/", arguments["folder"], meta=arguments.get("meta"))
for directory, meta in arguments.get("directories", {}).items():
    package.set_dir(directory, os.path.join(arguments["folder"], directory), meta=meta)
for key, meta in arguments.get("files", {}).items():
    package[key].set_meta(meta)

def push(package):
    return package.push(
        arguments["name"], arguments["registry"], message=arguments.get("message"), force=True
    )

in_bucket = arguments["registry"].startswith("s3://")
if in_bucket:
    package = push(package)
for key, hashed in arguments.get("hashes", {}).items():
    package[key].hash = hashed
if not in_bucket:
    answer(package.build(arguments["name"], arguments["registry"], message=arguments.get("message")))
else:
    # a push of what lies in the bucket already copies nothing, and keeps hashes of every kind
    answer((push(package) if "hashes" in arguments else package).top_hash)
"""
"""Publishes a folder: pushed to a bucket, or built in a registry of this machine, which names the folder's files.

``meta`` is the package's, ``directories`` and ``files`` have theirs by key; ``hashes`` replace those of entries.
"""

READ = """
name, registry, top_hash = arguments["name"], arguments["registry"], arguments.get("top_hash")
package = quilt3.Package.browse(name, registry, top_hash)
quilt3.Package.install(name, registry, top_hash, dest=arguments["into"])
answer({
    "top_hash": package.top_hash,
    "message": package._meta.get("message"),
    "meta": package.meta,
    "directories": {key: package[key].meta for key in arguments.get("directories", ())},
    "files": {key: entry.meta for key, entry in package.walk() if entry.meta},
    "version_ids": [entry.physical_key.version_id for _, entry in package.walk()],
    "verified": package.verify(arguments["into"]),
    "packages": list(quilt3.list_packages(registry)),
    "versions": dict(quilt3.list_package_versions(name, registry)),
})
"""
"""Browses, installs and verifies a version: the latest, or ``top_hash``; tells all quilt3 knows of it."""

ADD_FILE = """
name, registry = arguments["name"], arguments["registry"]
package = quilt3.Package.browse(name, registry)
package.set("theirs.txt", arguments["file"])
if registry.startswith("s3://"):
    answer(package.push(name, registry, message="theirs").top_hash)
else:
    answer(package.build(name, registry, message="theirs"))
"""
"""Publishes a version with one file more on top of the latest; without ``force``, quilt3 checks what it is based on."""
