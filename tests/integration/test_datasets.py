"""Datasets whose users come at once, and any mix of changes beside a plain dictionary."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusepkg.datasets import Dataset, DatasetClient
from fusepkg.errors import DataUnfit
from tests.proxy import ACCESS_DENIED, Proxy
from tests.rgw import Gateway
from tests.samples.media import picture


def test_many_add_at_once(registry: str, tmp_path: Path) -> None:
    """Nothing is lost, and nobody gets an error."""
    name = DatasetClient(registry).create_dataset("Shared").dataset_hash
    files = [picture(tmp_path / f"{number}.png", 8 + number) for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        rows = list(threads.map(lambda file: Dataset(name).upload_image(file), files))
    assert {row.uid for row in Dataset(name).data_rows} == {row.uid for row in rows}
    assert len({row.uid for row in rows}) == 6


@pytest.mark.s3
def test_private_data_are_asked_for_and_read_once(proxy: Proxy, s3: Gateway, tmp_path: Path) -> None:
    """A repeat reads nothing of what is there, and what failed is added by it."""
    dataset, data = Dataset(DatasetClient(s3.bucket()).create_dataset("Mine").dataset_hash), s3.bucket()
    names = ["a.png", "b.png"]
    for number, name in enumerate(names):
        s3.s3.put_object(Bucket=data, Key=name, Body=picture(tmp_path / name, 8 + number).read_bytes())
    content = {"images": [{"objectUrl": f"s3://{data}/{name}"} for name in names]}

    def asked() -> list[tuple[str, str]]:
        found = sorted((one.key, one.operation) for one in proxy.requests if one.bucket == data)
        proxy.forget()
        return found

    proxy.fail(ACCESS_DENIED, key="b.png", times=None)  # as all of a bucket that one may not read
    asked()
    answer = dataset.add_private_data_to_dataset(None, content, ignore_errors=True)
    assert [one.title for one in answer.dataset_data_list] == ["a.png"]
    assert [(line.where, line.code) for line in answer.failed] == [("images[1]", "remote.access_denied")]
    assert [one for one in asked() if one[0] == "a.png"] == [("a.png", "GetObject"), ("a.png", "HeadObject")]
    proxy.heal()
    answer = dataset.add_private_data_to_dataset(None, content)
    assert [one.title for one in answer.dataset_data_list] == ["b.png"]
    assert [one.title for one in answer.already_there] == ["a.png"]
    assert asked() == [("a.png", "HeadObject"), ("b.png", "GetObject"), ("b.png", "HeadObject")]


@pytest.mark.parametrize("seed", [1, 2])
def test_any_mix_of_changes(tmp_path: Path, seed: int) -> None:
    """A dataset is what a dictionary of its rows would be, and so is each older version."""
    chance = random.Random(seed)
    dataset = Dataset(DatasetClient("local").create_dataset("Mix").dataset_hash)
    files = [picture(tmp_path / f"{number}.png", 8 + number % 3, 8 + number // 3) for number in range(6)]
    model: dict[str, tuple[str, int]] = {}
    history = {dataset.package.hash: dict(model)}
    for step in range(14):
        choice = chance.randrange(4)
        if choice == 0:
            row = dataset.upload_image(chance.choice(files))
            model.setdefault(row.uid, (row.title, 1))
        elif choice == 1:
            for row in dataset.create_image_group(chance.sample(files, 3), f"group {chance.randrange(3)}"):
                model.setdefault(row.uid, (row.title, len(row.images_data or ())))
        elif choice == 2 and model:
            uid = chance.choice(list(model))
            assert dataset.update_data_row(uid, title=f"title {step}").uid == uid
            model[uid] = (f"title {step}", model[uid][1])
        else:
            doomed = chance.sample(list(model), len(model) // 3)
            assert dataset.delete_data([*doomed, "another"]).deleted == doomed
            for uid in doomed:
                del model[uid]
        assert found_in(dataset) == model
        history[dataset.package.hash] = dict(model)
    for version, rows in history.items():
        assert found_in(Dataset(f"{dataset.dataset_hash}@{version}")) == rows


def found_in(dataset: Dataset) -> dict[str, tuple[str, int]]:
    return {row.uid: (row.title, 1 if row.images_data is None else len(row.images_data)) for row in dataset.data_rows}


def test_what_is_no_dataset(tmp_path: Path) -> None:
    from fusepkg import PackageBuilder

    PackageBuilder("local/plain:latest", quiet=True).add(picture(tmp_path / "a.png"), "a.png").push_data_and_manifest()
    with pytest.raises(DataUnfit, match="local/plain:latest is no dataset"):
        Dataset("local/plain").upload_image(tmp_path / "a.png")
    assert DatasetClient("local").get_datasets() == []
    with pytest.raises(DataUnfit, match="holds no letter"):
        DatasetClient("local").create_dataset("!")
    made = Dataset(DatasetClient(f"file://{tmp_path}/bucket").create_dataset("Here").dataset_hash)
    with pytest.raises(DataUnfit, match=r"nowhere\.png is not a file"):
        made.create_image_group([tmp_path / "a.png", tmp_path / "nowhere.png"])
    assert [one.title for one in DatasetClient(f"file://{tmp_path}/bucket").get_datasets()] == ["Here"]
    assert made.upload_image(tmp_path / "a.png").width == 64
