"""What a volume may ask for, and that what it may not is refused by its name."""

from __future__ import annotations

import configparser
from typing import Any

import pytest

from fusepkg.csi.protocol import MESSAGES
from fusepkg.csi.volumes import Volume, credentials_file, refuse_capability, volume_of
from fusepkg.errors import UsageError

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s/ecret+1"}
EPHEMERAL = {"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/serviceAccount.tokens": "{...}"}


def test_attributes_become_options_of_mount() -> None:
    asked = {"package": "bucket/a/b:v1", "retry_timeout": "5", "xattrs": "true", "where": "size > 5", "as": "name"}
    volume = volume_of(asked | EPHEMERAL, {})
    assert volume.package == "bucket/a/b:v1"
    assert volume.arguments() == ["--as=name", "--retry-timeout=5", "--where=size > 5", "--xattrs"]
    assert volume_of({"package": "data/p", "no_sign_request": "false"}, {}).arguments() == []


def test_a_volume_that_follows_a_tag_is_mounted_with_fuse() -> None:
    assert volume_of({"package": "data/p", "follow": "production"}, {}).arguments() == [
        "--follow=production",
        "--engine=fuse",
    ]


@pytest.mark.parametrize(
    ("attributes", "secrets", "named"),
    [
        ({}, {}, "package is missing"),
        ({"package": "data/p", "Follow": "x"}, {}, "no attribute Follow"),
        ({"package": "data/p", "cache_dir": "/etc"}, {}, "no attribute cache_dir"),
        ({"package": "data/p", "profile": "admin"}, {}, "no attribute profile"),
        ({"package": "no name"}, {}, "no name"),
        ({"package": "file:///etc//p:v1"}, {}, "file on the node"),
        ({"package": "dvc+/etc/repository"}, {}, "dvc on the node"),
        ({"package": "data/p", "xattrs": "yes"}, {}, "xattrs is 'yes'"),
        ({"package": "data/p", "where": "a\nb"}, {}, "where has more than one line"),
        ({"package": "data/p", "follow": "t", "engine": "erofs"}, {}, "engine must be fuse"),
        ({"package": "data/p", "no_sign_request": "true"}, KEYS, "there is a secret"),
        ({"package": "data/p", "endpoint_url": "http://evil", **EPHEMERAL}, {}, "endpoint_url would have"),
    ],
)
def test_attributes_are_refused_by_name(attributes: dict[str, str], secrets: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        volume_of(attributes, secrets)


def test_an_endpoint_is_taken_where_no_credentials_of_the_node_go_to_it() -> None:
    asked = {"package": "data/p", "endpoint_url": "http://s3"}
    assert volume_of(asked, {}).options  # of a persistent volume, which an administrator made
    assert volume_of(asked | EPHEMERAL, KEYS).options
    assert volume_of(asked | EPHEMERAL | {"no_sign_request": "true"}, {}).options


def test_volumes_share_a_mount_unless_they_differ_or_have_secrets() -> None:
    one, other = Volume("data/p:v1"), Volume("data/p:v1", (("times", "now"),))
    assert one.shared_as("a", has_secrets=False) == one.shared_as("b", has_secrets=False)
    assert one.shared_as("a", has_secrets=False) != other.shared_as("a", has_secrets=False)
    names = {one.shared_as(volume_id, has_secrets=True) for volume_id in "ab"} | {one.shared_as("a", has_secrets=False)}
    assert len(names) == 3


def test_secrets_become_a_credentials_file() -> None:
    file = configparser.ConfigParser(interpolation=None)
    file.read_string(credentials_file(KEYS | {"AWS_SESSION_TOKEN": "t%0"}))
    assert dict(file["default"]) == {
        "aws_access_key_id": "AKIA1",
        "aws_secret_access_key": "s/ecret+1",
        "aws_session_token": "t%0",
    }


@pytest.mark.parametrize(
    ("secrets", "named"),
    [
        ({"AWS_ACCESS_KEY_ID": "HIDDEN"}, "lacks the key AWS_SECRET_ACCESS_KEY"),
        (KEYS | {"password": "HIDDEN"}, "unknown key password"),
        (KEYS | {"AWS_SESSION_TOKEN": "HIDDEN\n[other]"}, "AWS_SESSION_TOKEN is not one word"),
        (KEYS | {"AWS_SESSION_TOKEN": ""}, "AWS_SESSION_TOKEN is not one word"),
    ],
)
def test_secrets_are_refused_without_their_values(secrets: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named) as refused:
        credentials_file(secrets)
    assert "HIDDEN" not in str(refused.value)


@pytest.mark.parametrize(
    ("capability", "readonly", "named"),
    [
        ({}, True, "lacks its access type"),
        ({"mount": {}}, True, "lacks its access type or access mode"),
        ({"mount": {}, "access_mode": {"mode": 99}}, True, "lacks its access type or access mode"),
        ({"block": {}, "access_mode": {"mode": 3}}, True, "not a block device"),
        ({"mount": {}, "access_mode": {"mode": 1}}, False, "written to"),
        ({"mount": {}, "access_mode": {"mode": 5}}, False, "written to"),
        ({"mount": {"fs_type": "ext4"}, "access_mode": {"mode": 3}}, False, "no file system 'ext4'"),
        ({"mount": {"mount_flags": ["password=HIDDEN"]}, "access_mode": {"mode": 3}}, False, "mountOptions"),
        ({"mount": {}, "access_mode": {"mode": 3}}, False, ""),
        ({"mount": {"mount_flags": ["ro"]}, "access_mode": {"mode": 1}}, True, ""),
    ],
)
def test_only_reading_can_be_asked_for(capability: dict[str, Any], readonly: bool, named: str) -> None:
    asked = MESSAGES["VolumeCapability"](**capability)
    if not named:
        refuse_capability(asked, readonly=readonly)
        return
    with pytest.raises(UsageError, match=named) as refused:
        refuse_capability(asked, readonly=readonly)
    assert "HIDDEN" not in str(refused.value)
