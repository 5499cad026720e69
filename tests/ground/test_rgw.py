"""The S3 server of the fixtures does what the product's tests rely on."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.rgw import Gateway

pytestmark = pytest.mark.s3


def test_a_versioned_bucket_keeps_what_is_overwritten(rgw: Gateway) -> None:
    bucket = rgw.bucket(versioned=True)
    first = rgw.s3.put_object(Bucket=bucket, Key="k", Body=b"one")["VersionId"]
    rgw.s3.put_object(Bucket=bucket, Key="k", Body=b"two")
    assert rgw.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"two"
    assert rgw.s3.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read() == b"one"


def test_buckets_are_fresh(rgw: Gateway) -> None:
    first, second = rgw.bucket(), rgw.bucket()
    assert first != second
    assert "Contents" not in rgw.s3.list_objects_v2(Bucket=first)


def test_it_answers_ranges_with_206(rgw: Gateway) -> None:
    bucket = rgw.bucket()
    rgw.s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    answer = rgw.s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4")
    assert answer["Body"].read() == b"234"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206


def test_it_creates_only_where_nothing_is(rgw: Gateway) -> None:
    bucket = rgw.bucket()
    rgw.s3.put_object(Bucket=bucket, Key="k", Body=b"one", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        rgw.s3.put_object(Bucket=bucket, Key="k", Body=b"two", IfNoneMatch="*")


def test_another_user_may_do_nothing(rgw: Gateway) -> None:
    bucket = rgw.bucket()
    rgw.s3.put_object(Bucket=bucket, Key="k", Body=b"one")
    with pytest.raises(ClientError, match="AccessDenied"):
        rgw.client(rgw.user()).get_object(Bucket=bucket, Key="k")


def test_the_environment_leads_there(s3: Gateway) -> None:
    bucket = s3.bucket()
    assert bucket in [found["Name"] for found in boto3.client("s3").list_buckets()["Buckets"]]


def test_nothing_of_it_outlives_a_killed_run(tmp_path: Path) -> None:
    source = (
        "import sys, time\n"
        "from contextlib import ExitStack\nfrom pathlib import Path\nfrom tests.rgw import start_gateway\n"
        "with ExitStack() as stack: start_gateway(Path(sys.argv[1]), stack); print(flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", source, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == b"\n"
            daemons = [os.pidfd_open(pid) for pid in children(run.pid)]
        finally:
            run.kill()
    assert len(daemons) == 3
    for daemon in daemons:
        assert select.select([daemon], [], [], 30) == ([daemon], [], [])  # readable: it ended
        os.close(daemon)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
