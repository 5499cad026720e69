"""DVC repositories on the command line: listed, mounted and installed, with the data in S3 as in a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command import Fusepkg
from tests.dvc_repositories import unpack
from tests.proxy import Proxy
from tests.rgw import Gateway


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, dict[str, str]]:
    return unpack(tmp_path)


def in_s3(root: Path, s3: Gateway, endpoint: str) -> str:
    """Move the data of `registry` into a bucket, as `dvc push` would have put it there; return its name."""
    bucket, storage = s3.bucket(), root / "registry-storage"
    for path in storage.rglob("*"):
        if path.is_file():
            s3.s3.put_object(Bucket=bucket, Key=f"dvc/{path.relative_to(storage)}", Body=path.read_bytes())
    shutil.rmtree(storage)
    for name in ("registry", "dataset"):
        config = root / name / ".dvc/config"
        config.write_text(
            config.read_text().replace(
                "url = ../../registry-storage", f"url = s3://{bucket}/dvc\n    endpointurl = {endpoint}"
            )
        )
        who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com"]
        subprocess.run(
            ["git", *who, "commit", "-qam", "S3"], cwd=root / name, check=name == "registry", capture_output=True
        )
    return bucket


def files_below(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_bytes().decode("latin-1")
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.fuse
def test_a_revision_is_mounted_and_switched(
    expected: dict[str, dict[str, str]], fusepkg: Fusepkg, tmp_path: Path
) -> None:
    directory = tmp_path / "mount"
    directory.mkdir()
    repository = f"dvc+{tmp_path}/registry"
    fusepkg("mount", f"{repository}@v1", directory)
    try:
        assert files_below(directory) == expected["registry@v1"]
        assert f"{repository}@v1" in fusepkg("mounts").stdout
        fusepkg("switch", directory, f"{repository}@v2")
        assert files_below(directory) == expected["registry@v2"]
    finally:
        fusepkg("umount", directory)
    changes = fusepkg("diff", f"{repository}@v1", f"{repository}@v2", check=False)
    assert (changes.returncode, "modified  raw/01/a.jpg" in changes.stdout) == (1, True)


def test_a_revision_is_installed(expected: dict[str, dict[str, str]], fusepkg: Fusepkg, tmp_path: Path) -> None:
    fusepkg("install", "dvc+registry@v1//raw/01", cwd=tmp_path)
    registry = expected["registry@v1"]
    assert files_below(tmp_path / "01") == {
        key[7:]: text for key, text in registry.items() if key.startswith("raw/01/")
    }
    assert "No files have been changed" in fusepkg("status", "01", cwd=tmp_path).stdout


@pytest.mark.s3
def test_credentials_go_nowhere_because_a_repository_says_so(
    expected: dict[str, dict[str, str]], s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    in_s3(tmp_path, s3, proxy.endpoint)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    elsewhere = f"dvc+file://{tmp_path}/registry"
    proxy.forget()
    refused = fusepkg("ls", elsewhere, check=False)
    assert refused.returncode != 0
    assert f"If you trust it: --endpoint-url {proxy.endpoint}" in refused.stderr
    assert proxy.requests == []
    assert fusepkg("ls", "--endpoint-url", proxy.endpoint, elsewhere).stdout
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"{proxy.endpoint}/")
    assert fusepkg("cat", elsewhere, "raw/02/z.jpg").stdout == "z"


@pytest.mark.s3
def test_data_in_s3_is_read_where_dvcs_configuration_says(
    expected: dict[str, dict[str, str]], s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bucket = in_s3(tmp_path, s3, proxy.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    proxy.forget()
    listed = json.loads(fusepkg("ls", "-r", "--json", f"dvc+{tmp_path}/registry").stdout)
    assert {one["logical_key"] for one in listed if "size" in one} == set(expected["registry@v2"])
    assert {one["physical_key"].split("/files/")[0] for one in listed if "size" in one} == {f"s3://{bucket}/dvc"}
    lists = [request for request in proxy.requests if request.operation == "GetObject"]
    assert all(request.key.endswith(".dir") for request in lists), "no data is fetched"
    proxy.forget()
    assert fusepkg("cat", f"dvc+{tmp_path}/registry", "raw/02/z.jpg").stdout == "z"
    assert [request.operation for request in proxy.requests].count("GetObject") == 1
    proxy.forget()
    fusepkg("ls", f"dvc+{tmp_path}/registry//raw/02")
    assert proxy.requests == [], "lists and sizes are remembered"


@pytest.mark.s3
def test_a_remote_that_keeps_versions_is_read_at_each_revision(
    expected: dict[str, dict[str, str]], s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    """As `dvc push` writes it with `version_aware`: objects by their paths, versions in `.dvc` files and `dvc.lock`."""
    bucket, registry = s3.bucket(versioned=True), tmp_path / "registry"
    config = registry / ".dvc/config"
    url = f"url = s3://{bucket}/dvc\n    version_aware = true"
    config.write_text(config.read_text().replace("url = ../../registry-storage", url))

    def pushed(path: str, text: str) -> str:
        put = s3.s3.put_object(Bucket=bucket, Key=f"dvc/{path}", Body=text.encode())
        md5, version = hashlib.md5(text.encode()).hexdigest(), put["VersionId"]
        return f"md5: {md5}, size: {len(text)}, cloud: {{storage: {{etag: x, version_id: '{version}'}}}}"

    def commit(tag: str, files: dict[str, str]) -> None:
        listed = "".join(
            f"  - {{relpath: '{path}', {pushed(f'raw/01/{path}', text)}}}\n" for path, text in files.items()
        )
        (registry / "raw/01.dvc").write_text(f"outs:\n- path: '01'\n  hash: md5\n  files:\n{listed}")
        model = pushed("model.bin", tag)
        (registry / "model.bin.dvc").write_text(f"outs:\n- {{path: model.bin, hash: md5, isexec: true, {model}}}\n")
        count = f"outs: [{{path: counts/one.txt, hash: md5, {pushed('counts/one.txt', tag)}}}]"
        (registry / "dvc.lock").write_text(f"schema: '2.0'\nstages: {{count@one: {{cmd: x, {count}}}}}\n")
        (registry / "raw/02.dvc").unlink(missing_ok=True)
        who = ["-c", "user.name=ada", "-c", "user.email=ada@example.com"]
        subprocess.run(["git", *who, "commit", "-qam", tag], cwd=registry, check=True)
        subprocess.run(["git", "tag", tag], cwd=registry, check=True)

    wanted = {
        "before": {"a": "first", "deep/\u00fc b": "b", "empty": ""},
        "after": {"a": "second!", "deep/\u00fc b": "b"},
    }
    for tag, files in wanted.items():
        commit(tag, files)
    proxy.forget()
    for tag, files in wanted.items():
        fusepkg("install", f"dvc+{registry}@{tag}", "--location", tmp_path / tag)
        whole = {f"raw/01/{path}": text for path, text in files.items()} | {"model.bin": tag, "counts/one.txt": tag}
        assert files_below(tmp_path / tag) == whole
        assert (tmp_path / tag / "model.bin").stat().st_mode & 0o111
    assert {request.operation for request in proxy.requests} == {"GetObject"}, "sizes are told by DVC's files"
    s3.s3.put_object(Bucket=bucket, Key="dvc/raw/01/a", Body=b"third")
    fusepkg("cache", "clear")
    assert fusepkg("cat", f"dvc+{registry}@before", "raw/01/a").stdout == "first"
    said = fusepkg("import", f"dvc+{registry}@before//raw", f"{bucket}/made:v1").stderr
    assert f"stays in DVC's remote, s3://{bucket}" in said
    assert fusepkg("cat", f"{bucket}/made:v1", "01/a").stdout == "first"


def test_a_package_is_made_of_a_repository(
    expected: dict[str, dict[str, str]], fusepkg: Fusepkg, tmp_path: Path
) -> None:
    said = fusepkg("import", f"dvc+{tmp_path}/registry@v1", "local/made:v1")
    assert "sent" in said.stderr
    shutil.rmtree(tmp_path / "registry-storage")
    listed = json.loads(fusepkg("ls", "-r", "--json", "local/made:v1").stdout)
    assert {one["logical_key"] for one in listed if "size" in one} == set(expected["registry@v1"])
    assert all(one["hash"].startswith("sha2-256-chunked:") for one in listed if "size" in one)
    assert fusepkg("cat", "local/made:v1", "raw/01/a.jpg").stdout == "a"
    refused = fusepkg("import", f"dvc+{tmp_path}/registry@v1", "local/made", "--rev", "v2", check=False)
    assert (refused.returncode, "@REV" in refused.stderr) == (2, True)


@pytest.mark.s3
def test_a_package_of_a_repository_in_s3_moves_no_bytes(
    expected: dict[str, dict[str, str]], s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    remote, bucket = in_s3(tmp_path, s3, proxy.endpoint), s3.bucket()
    name = hashlib.md5(b"z").hexdigest()
    proxy.forget()
    said = fusepkg("import", f"dvc+{tmp_path}/registry", f"{bucket}/made:v1", "--json")
    assert f"stays in DVC's remote, s3://{remote}" in said.stderr
    assert all(".quilt/" in request.key for request in proxy.requests if request.method == "PUT")
    assert fusepkg("cat", f"{bucket}/made:v1", "raw/02/z.jpg").stdout == "z"
    assert fusepkg("verify", f"{bucket}/made:v1").returncode == 0
    s3.s3.put_object(Bucket=remote, Key=f"dvc/files/md5/{name[:2]}/{name[2:]}", Body=b"!")
    fusepkg("cache", "clear")
    refused = fusepkg("import", f"dvc+{tmp_path}/registry", f"{bucket}/other", check=False)
    assert refused.returncode == 6, "bytes that are not DVC's are not hashed as ours"


def test_a_repository_is_only_read(expected: dict[str, dict[str, str]], fusepkg: Fusepkg, tmp_path: Path) -> None:
    repository = f"dvc+{tmp_path}/registry"
    fusepkg("ls", repository)
    for command in (("push", tmp_path / "registry-storage", repository), ("init", f"{repository}@v1")):
        refused = fusepkg(*command, check=False, cwd=tmp_path)
        assert (refused.returncode, "only reads" in refused.stderr) == (2, True)
    assert "unknown" not in fusepkg("cache", "gc").stderr
    assert fusepkg("ls", repository).stdout
