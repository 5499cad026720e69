"""Runs of a datapool that are not the plain ones: killed, bounded, over what is broken or has changed, two at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusepkg import Package
from fusepkg.errors import PoolUnfit, TagConflict
from fusepkg.opened.contexts import close_contexts
from fusepkg.pool import Pool, Selection
from fusepkg.pool import pool as pool_module
from fusepkg.pool.config import Balance
from fusepkg.pool.datapool_csv import read_datapool, write_datapool
from fusepkg.registry.tags import read_tag
from tests.command import Fusepkg
from tests.proxy import Proxy
from tests.rgw import Gateway
from tests.videos import make_picture, make_video

EMBEDDER = """
import os, signal
import numpy as np

calls = 0

def embed(pictures):
    global calls
    calls += 1
    with open("calls", "a") as file:
        file.write(f"{len(pictures)}\\n")
    if str(calls) == os.environ.get("DIES_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    return np.stack([picture[::8, ::8].reshape(-1) for picture in pictures])
"""


@pytest.fixture(autouse=True)
def closed(home: Path) -> Iterator[None]:
    """What a test has opened in this process is closed after it."""
    yield
    close_contexts()


def pictures_of(package: Package) -> list[str]:
    return [entry.logical_key for entry in package if not entry.logical_key.startswith("datapool/")]


def test_killed_and_repeated_is_as_undisturbed(fusepkg: Fusepkg, tmp_path: Path) -> None:
    make_video(tmp_path / "videos" / "a.avi", frames=40)
    make_video(tmp_path / "videos" / "b.avi", frames=20)
    for number in range(6):
        make_picture(tmp_path / "videos" / f"c{number}.png", time=number)
    (tmp_path / "my_embedder.py").write_text(EMBEDDER)
    config = tmp_path / "pool.toml"
    config.write_text(
        'source = "videos/"\ntarget = "local/street"\nembedder = "my_embedder:embed"\n[selection]\nmin_distance = 0.1\n'
    )
    undisturbed = {"FUSEPKG_CACHE_DIR": str(tmp_path / "cache2"), "FUSEPKG_DATA_DIR": str(tmp_path / "data2")}
    wanted = json.loads(fusepkg("pool", "run", config, "--json", cwd=tmp_path, env=undisturbed).stdout)
    all_calls = (tmp_path / "calls").read_text().split()
    (tmp_path / "calls").unlink()
    for at in (2, 5, 3):  # within a.avi; within b.avi, after a.avi; at the pictures, after b.avi
        killed = fusepkg("pool", "run", config, cwd=tmp_path, env={"DIES_AT": str(at)}, check=False)
        assert killed.returncode == -9
        assert fusepkg("ls", "local/street", check=False).returncode == 3
    again = json.loads(fusepkg("pool", "run", config, "--json", cwd=tmp_path).stdout)
    assert again == wanted
    assert (tmp_path / "calls").read_text().split() == [*["16", "16", "16", "16", "8", "16", "4", "16", "4", "6", "6"]]
    assert all_calls == ["16", "16", "8", "16", "4", "6"]
    assert fusepkg("hash", "local/street").stdout.split()[0] == wanted["reference"].partition("@")[2]
    assert list((Path(os.environ["FUSEPKG_CACHE_DIR"]) / "pools").iterdir()) == []


def test_without_news_nothing_heavy_is_loaded(home: Path, tmp_path: Path) -> None:
    make_picture(tmp_path / "pictures" / "a.png")
    assert len(Pool(tmp_path / "pictures", "local/p", selection=Selection(n_samples=1)).run().objects) == 1
    program = (
        "import sys; from fusepkg.pool import Pool, Selection;"
        " run = Pool(sys.argv[1], 'local/p', selection=Selection(n_samples=1)).run();"
        " print(len(run.objects), sorted({'numpy', 'av', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "pictures")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0 []\n"


def test_a_run_cut_off_before_its_own_tag(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_picture(tmp_path / "pictures" / "a.png")
    pool = Pool(tmp_path / "pictures", "local/p:v1", selection=Selection(n_samples=1))
    with monkeypatch.context() as patch:
        patch.setattr(pool_module, "tag_run", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pool.run()
    done = pool.run()
    assert (done.objects, done.tag) == ((), "v1-run-1")
    assert Package("local/p:v1-run-1").hash == Package("local/p:v1").hash == done.package.hash


def test_pictures_and_what_is_broken(registry: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name in ("a.png", "sub/b.jpg", "c.webp"):
        make_picture(folder / name)
    make_video(folder / "one.avi", frames=1)
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "empty.jpg").touch()
    (folder / "text.mp4").write_text("no video")
    (folder / "notes.txt").write_text("left alone")
    source = str(folder)
    if registry != "local":
        gateway: Gateway = request.getfixturevalue("s3")
        for file in folder.rglob("*.*"):
            gateway.s3.put_object(Bucket=registry, Key=f"raw/{file.relative_to(folder)}", Body=file.read_bytes())
        source = f"s3://{registry}/raw"
    selection = Selection(min_distance=0.0)
    run = Pool(source, f"{registry}/ns/all", selection=selection).run()
    assert sorted(run.chosen) == ["a.png", "c.webp", "one-000000-avi.png", "sub/b.jpg"]
    assert set(run.skipped) == {"torn.png", "empty.jpg", "text.mp4"}
    assert run.package.get("sub/b.jpg") == (folder / "sub/b.jpg").read_bytes()
    report = run.package.get("datapool/report.md").decode()
    assert "| empty.jpg | it is empty |" in report
    if registry != "local":  # they stay where they lie
        assert run.package.get_entry("a.png").physical_key.startswith(f"s3://{registry}/raw/a.png")
    assert Pool(source, f"{registry}/ns/all", selection=selection).run().objects == ()


@pytest.mark.s3
def test_a_chosen_object_is_asked_for_once(proxy: Proxy, s3: Gateway, tmp_path: Path) -> None:
    """Its size and ETag come from the listing; its checksum is asked for when the version is made, side by side."""
    bucket, names = s3.bucket(), ["raw/a.png", "raw/b.png"]
    for number, name in enumerate(names):
        body = make_picture(tmp_path / name, time=number).read_bytes()
        s3.s3.put_object(Bucket=bucket, Key=name, Body=body)
    Pool(f"s3://{bucket}/", f"{bucket}/p", selection=Selection(n_samples=2)).run()
    assert sorted(one.key for one in proxy.requests if one.key in names and one.operation == "HeadObject") == names


def test_an_object_that_changed_is_looked_at_again(home: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "v" / "a.avi", "one", frames=3)
    make_picture(tmp_path / "v" / "p.png", "one")
    pool = Pool(tmp_path / "v", "local/p", selection=Selection(min_distance=0.0))
    first = pool.run()
    make_video(video, "two", frames=5)  # two of its frames have numbers that the first had not
    make_picture(tmp_path / "v" / "p.png", "two")
    second = pool.run()
    assert (len(second.objects), second.run) == (2, 2)
    assert set(pictures_of(second.package)) == {*first.chosen, *second.chosen}
    assert all("~" in name for name in second.chosen)
    assert all(second.package.get(name) == first.package.get(name) for name in first.chosen)


def test_bounds_of_a_run(home: Path, tmp_path: Path) -> None:
    """The number, the part, thresholds of what was measured, and shares of classes over all runs."""
    lines = ["filenames,class"]
    for number in range(24):
        make_picture(tmp_path / "p" / f"{number:02}.png", f"{number}")
        lines.append(f"{number:02}.png,{'car' if number < 20 else 'bus'}")
    (tmp_path / "classes.csv").write_text("\n".join(lines) + "\n")
    source = tmp_path / "p"
    tenth = Pool(source, "local/tenth", selection=Selection(proportion=0.1)).run()
    assert len(tenth.chosen) == 2
    bright = Selection(n_samples=24, thresholds={"luminance": {"gt": 120.0}})
    chosen = Pool(source, "local/bright", selection=bright).run()
    assert 0 < len(chosen.chosen) < 24
    assert all(chosen.package.get_entry(name).meta["luminance"] > 120 for name in chosen.chosen)

    halves = Selection(n_samples=6, balance=Balance("class", {"car": 0.5, "bus": 0.5}))
    classes = tmp_path / "classes.csv"
    first = Pool(source, "local/even", selection=halves, metadata=classes).run()
    kinds = [first.package.get_entry(name).meta["class"] for name in first.chosen]
    assert (kinds.count("car"), kinds.count("bus")) == (3, 3)
    for number in range(24, 36):
        make_picture(tmp_path / "p" / f"{number:02}.png", f"{number}")
        lines.append(f"{number:02}.png,{'car' if number < 34 else 'bus'}")
    classes.write_text("\n".join(lines) + "\n")
    uneven = Selection(n_samples=4, balance=Balance("class", {"bus": 0.4}))  # of 10 in all, 3 of which are there
    second = Pool(source, "local/even", selection=uneven, metadata=classes).run()
    kinds = [second.package.get_entry(name).meta["class"] for name in second.chosen]
    assert (kinds.count("car"), kinds.count("bus")) == (3, 1)


def test_what_cannot_be_continued_is_refused(home: Path, tmp_path: Path, fusepkg: Fusepkg) -> None:
    make_picture(tmp_path / "p" / "a.png")
    selection = Selection(n_samples=1)
    Pool(tmp_path / "p", "local/p", selection=selection).run()
    make_picture(tmp_path / "p" / "b.png")

    def mean(pictures: list[np.ndarray]) -> np.ndarray:
        return np.stack([picture.mean(axis=(0, 1)) for picture in pictures])

    other = Pool(tmp_path / "p", "local/p", selection=selection, embedder=mean)
    with pytest.raises(PoolUnfit, match=r"was chosen by the embedder histogram-1.*process_all = true"):
        other.run()
    anew = Pool(tmp_path / "p", "local/p", selection=selection, embedder=mean, process_all=True).run()
    assert (anew.total, pictures_of(anew.package)) == (1, ["a.png"])
    fusepkg("push", tmp_path / "p", "local/plain")
    close_contexts()
    with pytest.raises(PoolUnfit, match="was not made by a datapool"):
        Pool(tmp_path / "p", "local/plain", selection=selection).run()
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "notes.txt").write_text("no picture")
    with pytest.raises(PoolUnfit, match="no pictures or videos in"):
        Pool(tmp_path / "none", "local/none", selection=selection).run()


def test_two_runs_at_once(home: Path, tmp_path: Path) -> None:
    """While one embeds, another of the same pool is refused on this machine; one elsewhere publishes first."""
    make_picture(tmp_path / "p" / "a.png")
    make_picture(tmp_path / "q" / "b.png")
    selection, refusals = Selection(n_samples=1), []

    def slow(pictures: list[np.ndarray]) -> np.ndarray:
        try:
            Pool(tmp_path / "p", "local/p", selection=selection, embedder=slow).run()
        except PoolUnfit as exc:
            refusals.append(exc.message)
        Pool(tmp_path / "q", "local/p", selection=selection).run()
        return np.ones((len(pictures), 2))

    pool = Pool(tmp_path / "p", "local/p", selection=selection, embedder=slow)
    with pytest.raises(TagConflict):
        pool.run()
    assert refusals == ["another run of this pool is under way here"]
    now = Package("local/p")
    assert pictures_of(now) == ["b.png"]
    store = now.context.store(now.reference.bucket)
    assert getattr(read_tag(store, "p", "latest-run-1"), "top_hash", None) == now.hash


def test_the_file_of_embeddings(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    names = ["a.png", 'b,"c".png', "d\u00e9.png"]
    write_datapool(tmp_path / "f.csv", names, numbers)
    data = (tmp_path / "f.csv").read_bytes()
    assert data.startswith(b"filenames,embedding_0,embedding_1,embedding_2,embedding_3,embedding_4,labels\n")
    found, vectors = read_datapool(data, "f.csv")
    assert found == names
    assert np.array_equal(vectors, numbers)
