"""Labels of pictures from recording to training, as those work who keep them in a search engine; both registries."""

from __future__ import annotations

import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusepkg import Package
from fusepkg.errors import LabelsUnfit, ObjectMissing, QueryInvalid, QueryStopped, SystemFailure, UsageError
from fusepkg.labels import label_set
from fusepkg.labels.label_set import LabelSet, write_labels
from fusepkg.opened.contexts import close_contexts
from tests.command import Fusepkg


def record(directory: Path, numbers: range, **more: Any) -> dict[str, Any]:
    """What a car records: pictures, one file of labels, what all of them have in common."""
    directory.mkdir()
    labels = {}
    for number in numbers:
        img_id = f"20200119T14-30-55-{number:06}"
        (directory / f"{img_id}.jpg").write_bytes(f"picture {number}".encode())
        label = {"label_direction": number % 5, "label_speed": number % 3}
        labels[img_id] = {"img_id": img_id, "file_name": f"{img_id}.jpg", "label": label, "created_by": "car"} | more
    (directory / "labels.json").write_text(json.dumps(labels))
    (directory / "session_template.json").write_text('{"event": "iron car", "track": {"type": "oval"}}')
    (directory / "hardware_conf.json").write_text('{"car": "patate", "version": 1}')
    return labels


def test_from_recording_to_training(registry: str, fusepkg: Fusepkg, tmp_path: Path) -> None:
    cars = f"{registry}/cars:v1"
    recorded = record(tmp_path / "session", range(12))
    added = fusepkg("labels", "add", cars, tmp_path / "session", "-m", "first drive").stdout
    assert "12 labels added, 12 pictures added" in added

    # another label of the same picture, with five directions
    again = {name: label | {"nb_dir": 5} for name, label in list(recorded.items())[:2]}
    (tmp_path / "more.json").write_text(json.dumps(again))
    fusepkg("labels", "add", cars, tmp_path / "session", "--labels", tmp_path / "more.json")
    refused = fusepkg("labels", "add", cars, tmp_path / "session", check=False)
    assert refused.returncode == 10
    assert "has already: labels.json '20200119T14-30-55-000000' (" in refused.stderr

    fast = "event = 'iron car' AND car_setting.car = 'patate' AND label.label_speed = 2"
    found = fusepkg("labels", "search", cars, fast, "--download", tmp_path / "train")
    labels = json.loads((tmp_path / "train" / "labels.json").read_text())
    assert list(labels) == [name for name, label in recorded.items() if label["label"]["label_speed"] == 2]
    assert all((tmp_path / "train" / label["file_name"]).is_file() for label in labels.values())
    assert "4 pictures, 4 labels" in found.stderr
    several = fusepkg("labels", "search", cars, "label.label_speed < 2", "--json")
    assert "2 pictures with several labels that fit" in several.stderr
    assert json.loads(several.stdout)["20200119T14-30-55-000000"]["nb_dir"] == 5

    # the labeller's file: one label corrected, two to go, of which one is the last of its picture
    names = list(recorded)
    exported = tmp_path / "all.json"
    fusepkg("labels", "export", cars, exported)
    work = json.loads(exported.read_text())
    work[names[3]]["label"]["label_direction"] = 4
    work[names[0]]["to_delete"] = work[names[7]]["to_delete"] = True
    exported.write_text(json.dumps(work))
    before = fusepkg("hash", f"{registry}/cars-labels:v1").stdout.strip()
    applied = fusepkg("labels", "apply", cars, exported, "-m", "a day's work").stdout
    assert "1 label added, 9 there already, 2 deleted, 1 picture deleted" in applied
    listed = fusepkg("ls", cars).stdout
    assert f"{names[0]}.jpg" in listed
    assert f"{names[7]}.jpg" not in listed
    kept = json.loads(fusepkg("labels", "search", cars, f"img_id = '{names[3]}'", "--json").stdout)
    assert kept[names[3]]["label"]["label_direction"] == 4

    # a bad labelling day is undone
    fusepkg("rollback", f"{registry}/cars-labels:v1", before)
    assert "14 labels" in fusepkg("labels", "search", cars).stderr


@pytest.mark.fuse
def test_hits_are_mounted_with_their_labels(registry: str, fusepkg: Fusepkg, tmp_path: Path) -> None:
    cars, place = f"{registry}/cars:v1", tmp_path / "hits"
    record(tmp_path / "session", range(6))
    fusepkg("labels", "add", cars, tmp_path / "session")

    def check() -> None:
        try:
            labels = json.loads((place / "labels.json").read_text())
            assert len(labels) == 4
            assert sorted(os.listdir(place)) == sorted(["labels.json", *(one["file_name"] for one in labels.values())])
            for label in labels.values():
                number = int(label["img_id"][-6:])
                assert (place / label["file_name"]).read_bytes() == f"picture {number}".encode()
        finally:
            fusepkg("umount", place)

    mounted = fusepkg("labels", "search", cars, '{"label.label_speed": {"gte": 1}}', "--mount", place).stdout
    check()
    fusepkg("mount", mounted.split()[1], place, "--engine", "fuse")
    check()


@pytest.mark.fuse
def test_class_folders_come_from_labels(fusepkg: Fusepkg, tmp_path: Path) -> None:
    recorded = record(tmp_path / "session", range(4))
    cars, layout = LabelSet("local/cars:v1"), "event || '/' || label.label_speed || '/' || name"
    cars.add(tmp_path / "session")
    wanted = {f"iron car/{one['label']['label_speed']}/{one['file_name']}" for one in recorded.values()}

    def files(directory: Path) -> set[str]:
        return {str(path.relative_to(directory)) for path in directory.rglob("*.jpg")}

    assert cars.download(cars.search(layout=layout), tmp_path / "train") == []
    assert files(tmp_path / "train") == wanted
    words = ("labels", "search", "local/cars:v1", "--as", layout)
    fusepkg(*words, "--mount", tmp_path / "hits")
    try:
        assert files(tmp_path / "hits") == wanted
        assert (tmp_path / "hits" / min(wanted)).read_bytes() == b"picture 0"
    finally:
        fusepkg("umount", tmp_path / "hits")
    assert "--as goes with --download or --mount" in fusepkg(*words, check=False).stderr
    for wrong, reason in (
        ("'x'", "not unique"),
        ("'../' || name", "'..'"),
        ("NULL", "new name of"),
        ("1 +", "one exp"),
    ):
        with pytest.raises(QueryInvalid, match=reason):
            cars.search(layout=wrong)


def test_a_refused_session_changes_nothing(tmp_path: Path, fusepkg: Fusepkg) -> None:
    recorded = record(tmp_path / "session", range(3))
    cars = LabelSet("local/cars:v1")
    cars.add(tmp_path / "session")
    pictures, labels = (Package(f"local/{name}:v1").hash for name in ("cars", "cars-labels"))
    other = tmp_path / "other"
    record(other, range(3, 5))
    first = next(iter(recorded.values()))

    def refuse(content: Any, reason: str) -> None:
        (other / "labels.json").write_text(json.dumps(content))
        with pytest.raises(LabelsUnfit, match=reason):
            cars.add(other)
        assert [Package(f"local/{name}:v1").hash for name in ("cars", "cars-labels")] == [pictures, labels]

    there = json.loads((other / "labels.json").read_text())
    some = next(iter(there.values()))
    refuse({}, "holds no labels")
    refuse([some, some], "again")
    refuse([some, first], "has already")
    refuse([some, some | {"img_id": "x", "file_name": "nowhere.jpg"}], "nowhere.jpg is neither in")
    refuse([some, some | {"img_id": "x", "file_name": None}], "has no file_name")
    refuse([some | {"label": 3}], "the field label holds plain values")
    (other / first["file_name"]).write_bytes(b"another picture")
    refuse([first | {"created_by": "me"}], "is another one in the package")
    with pytest.raises(UsageError, match="names a version"):
        LabelSet(f"local/cars@{pictures}")


def test_a_search_reads_labels_and_nothing_else(tmp_path: Path) -> None:
    record(tmp_path / "session", range(3))
    cars = LabelSet("local/cars")
    cars.add(tmp_path / "session")
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhidden\n")
    for where in (
        f"(SELECT count(*) FROM read_csv('{secret}')) > 0",
        f"EXISTS (FROM '{secret}')",
        "no_such_field = 1",
        "img_id = 1 AND",
        "true) UNION SELECT 1, 2 --",
    ):
        with pytest.raises(QueryInvalid):
            cars.search(where)
    with pytest.raises(QueryStopped):
        cars.search("(SELECT count(*) FROM range(100000000000) a, range(1000) b) > 0", timeout_s=0.3)
    assert len(cars.search()) == 3


def test_of_two_labellers_at_once_nothing_is_lost(tmp_path: Path, registry: str) -> None:
    for number in range(4):
        record(tmp_path / str(number), range(number * 3, number * 3 + 3))
    sets = [LabelSet(f"{registry}/cars:v1") for _ in range(4)]
    sets[0].add(tmp_path / "0")
    with ThreadPoolExecutor(3) as labellers:
        done = list(labellers.map(lambda number: sets[number].add(tmp_path / str(number)), (1, 2, 3)))
    assert [one.added for one in done] == [3, 3, 3]
    assert len(sets[0].search()) == 12
    assert len(Package(f"{registry}/cars:v1")) == 12
    close_contexts()


def test_the_first_two_labellers_do_not_take_each_other_s_labels_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see no labels; the second to publish begins again on those of the first."""
    for number in range(2):
        record(tmp_path / str(number), range(number * 3, number * 3 + 3))
    push, others = label_set.push_change, [tmp_path / "1"]

    def late(*arguments: Any, **more: Any) -> Package:
        while others:
            LabelSet("local/cars").add(others.pop())
        return push(*arguments, **more)

    monkeypatch.setattr(label_set, "push_change", late)
    LabelSet("local/cars").add(tmp_path / "0")
    assert len(LabelSet("local/cars").search()) == 6


# --- any changes against a dictionary ---

speeds = st.sampled_from([0, 1, 9])
names = st.sampled_from(["a", "b", "c", "d"])
changes = st.lists(st.lists(st.tuples(names, speeds, st.booleans()), max_size=8), min_size=2, max_size=3)


@given(changes)
@example(
    [[("a", 9, True), ("a", 1, False)], [("a", 1, True), ("b", 9, True), ("c", 0, False)]]
)  # pictures stay, and go
@settings(max_examples=4)  # a change takes most of a second
def test_any_changes_leave_what_a_dictionary_has(changes: list[list[tuple[str, int, bool]]]) -> None:
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patched:
        patched.setenv("FUSEPKG_DATA_DIR", f"{scratch}/data")
        session = Path(scratch) / "session"
        session.mkdir()
        for name in "abcd":
            (session / f"{name}.jpg").write_text(name)
        first = [_label(name, 9) for name in "abcd"]
        (session / "labels.json").write_text(json.dumps(first))
        cars = LabelSet("local/cars")
        cars.add(session)
        expected = {(label["img_id"], 9) for label in first}
        pictures = set("abcd")
        for change in changes:
            # a label of a picture that is gone is refused, and a file says of a label either that it stays or goes
            chosen = {(name, speed): gone for name, speed, gone in change if name in pictures}
            documents = [_label(name, speed) | {"to_delete": gone} for (name, speed), gone in chosen.items()]
            (session / "work.json").write_text(json.dumps(documents))
            done = cars.apply(session / "work.json")
            new = {one for one, gone in chosen.items() if not gone} - expected
            lost = {one for one, gone in chosen.items() if gone} & expected
            assert (done.added, done.deleted) == (len(new), len(lost))
            expected = (expected | new) - lost
            without = {name for name, _ in lost} - {name for name, _ in expected}
            if without < pictures:
                pictures -= without
            found = cars.search(None)
            assert found.labels == len(expected)
            assert set(found.documents) == {name for name, _ in expected}
            assert {key.removesuffix(".jpg") for key in (one.logical_key for one in Package("local/cars"))} == pictures
            hits = cars.search({"label.label_speed": [0, 9]}).documents
            assert set(hits) == {name for name, speed in expected if speed in (0, 9)}
        close_contexts()


def _label(name: str, speed: int) -> dict[str, Any]:
    return {"img_id": name, "file_name": f"{name}.jpg", "label": {"label_speed": speed}}


def test_labels_are_written_whole_or_not(tmp_path: Path) -> None:
    record(tmp_path / "session", range(2))
    cars = LabelSet("local/cars")
    cars.add(tmp_path / "session")
    write_labels(cars.search(), tmp_path / "made" / "labels.json")
    assert os.listdir(tmp_path / "made") == ["labels.json"]
    with pytest.raises(SystemFailure, match=r"labels\.json cannot be written"):
        write_labels(cars.search(), Path("/proc/labels.json"))


def test_labels_whose_objects_are_gone_are_said_to_be(tmp_path: Path, home: Path) -> None:
    record(tmp_path / "session", range(2))
    LabelSet("local/cars").add(tmp_path / "session")
    for segment in (home / "fusepkg-data" / "local").rglob("*.parquet*"):
        segment.unlink()
    close_contexts()
    with pytest.raises(ObjectMissing, match="parquet"):
        LabelSet("local/cars").search()
