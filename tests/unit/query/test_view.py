from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.errors import EntryNotFound, QueryInvalid, UsageError
from fusepkg.query import pick
from fusepkg.query.view import VIEW_KEY
from tests.unit.query.conftest import PICTURES

CATS = "meta->'label'->>'event' = 'cat'"
LAYOUT = "meta->'label'->>'event' || '/' || name"


def test_a_view_is_a_package_of_the_hits(package: Package, tmp_path: Path) -> None:
    view = package.filter(where=CATS)
    assert [entry.logical_key for entry in view] == ["test/3.jpg", "train/1.jpg"]
    assert view["test/3.jpg"].get_bytes() == package["test/3.jpg"].get_bytes()
    assert view["test/3.jpg"].meta == PICTURES["test/3.jpg"]
    with pytest.raises(EntryNotFound):
        view["README"]
    assert view.hash != package.hash
    assert view.meta[VIEW_KEY]["of"] == f"local/pictures@{package.hash}"
    view.download(tmp_path / "cats")
    assert sorted(path.name for path in (tmp_path / "cats").rglob("*.jpg")) == ["1.jpg", "3.jpg"]
    again = pickle.loads(pickle.dumps(view))
    assert (again.hash, len(again)) == (view.hash, 2)
    assert len(view.filter(where="size > 1")) == 1  # a view of a view


def test_names_from_an_expression(package: Package) -> None:
    view = package.filter(where="meta.speed IS NOT NULL", layout=LAYOUT)
    assert [entry.logical_key for entry in view] == ["cat/1.jpg", "cat/3.jpg", "dog/2.jpg"]
    assert view.get("dog/2.jpg") == package.get("train/2.jpg")


def test_names_from_a_table_in_the_package(package: Package) -> None:
    view = package.filter(
        where="logical_key IN (SELECT logical_key FROM labels WHERE event = 'dog')",
        layout="(SELECT any_value(event) FROM labels l WHERE l.logical_key = entries.logical_key) || '/' || name",
    )
    assert [entry.logical_key for entry in view] == ["dog/2.jpg"]


def test_a_view_can_be_published(package: Package, published: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(published / "data", tmp_path / "data")
    builder = package.filter(where=CATS, layout=LAYOUT).as_package_builder()
    assert builder.meta[VIEW_KEY] == {"of": f"local/pictures@{package.hash}", "where": CATS, "as": LAYOUT}
    pushed = builder.push_manifest(tag="cats")
    try:
        assert [entry.logical_key for entry in Package("local/pictures:cats")] == ["cat/1.jpg", "cat/3.jpg"]
        assert pushed.get("cat/3.jpg") == package.get("test/3.jpg")
    finally:
        shutil.rmtree(published / "data")
        shutil.copytree(tmp_path / "data", published / "data")


@pytest.mark.parametrize(
    ("where", "layout", "says"),
    [
        ("false", "", "no entry of local/pictures fits"),
        ("size >", "", "not one expression"),
        ("true) UNION SELECT (1", "", "not one expression"),
        ("true; DROP TABLE entries", "", "not one expression"),
        ("nope = 1", "", "nope"),
        ("EXISTS (FROM read_text('/etc/passwd'))", "", "/etc/passwd"),
        ("(SELECT count(*) FROM read_csv('/etc/passwd')) > 0", "", "/etc/passwd"),
        ("meta.speed IS NOT NULL", "'all/same.jpg'", "'test/3.jpg' and 'train/1.jpg' are both 'all/same.jpg'"),
        ("meta.speed IS NOT NULL", "NULL", "the new name of 'test/3.jpg' is None"),
        ("meta.speed IS NOT NULL", "'../' || name", "the new name of 'test/3.jpg' is '../3.jpg'"),
        ("meta.speed IS NOT NULL", "'/' || name", "the new name of 'test/3.jpg'"),
        (
            "meta.speed IS NOT NULL",
            "CASE name WHEN '1.jpg' THEN 'a' ELSE 'a/' || name END",
            "'a/2.jpg': a file and a directory",
        ),
        ("kind = 'symlink'", "name", "is a symbolic link"),
    ],
)
def test_what_is_refused(package: Package, where: str, layout: str, says: str) -> None:
    with pytest.raises(QueryInvalid, match=says):
        package.filter(where=where, layout=layout)


def test_filter_takes_a_function_or_an_expression(package: Package) -> None:
    assert len(package.filter(lambda entry: entry.size == 1)) == 1
    wrong: list[Callable[[], object]] = [
        lambda: package.filter(layout="name"),  # type: ignore[call-overload]
        lambda: package.filter(lambda entry: True, where="true"),  # type: ignore[call-overload]
    ]
    for call in wrong:
        with pytest.raises(UsageError, match="takes a function, or"):
            call()


def test_an_answer_is_remembered_unless_it_may_change(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = pick.pick_entries

    def counted(version, where, *rest):
        asked.append(where)
        return real(version, where, *rest)

    monkeypatch.setattr(pick, "pick_entries", counted)
    first = package.filter(where="size = 3")
    assert package.filter(where=" size = 3 ").hash == first.hash
    assert Package("local/pictures", hash=package.hash).filter(where="size = 3").hash == first.hash
    assert asked == ["size = 3"]
    for changing in ("size = 3 AND random() < 2", "size = 3 AND now() > '2000-01-01'::TIMESTAMP"):
        package.filter(where=changing)
        package.filter(where=changing)
        assert asked.count(changing) == 2


def test_objects_that_moved_make_another_view(package: Package, tmp_path: Path, monkeypatch) -> None:
    """A top hash does not cover where objects lie; a view's does, so that an old view is not shown for a new one."""
    hashes = set()
    for number in range(2):
        monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "x").write_text("x")
        builder = PackageBuilder("local/moved", quiet=True).add(f"{tmp_path / str(number)}/", "")
        builder.push_data(f"place{number}")
        pushed = builder.push_manifest(tag=f"v{number}")
        hashes.add(pushed.filter(where="true").hash)
        shutil.rmtree(tmp_path / "data" / "local" / ".quilt")
        shutil.rmtree(pushed.index.directory.parent.parent)
    assert len(hashes) == 2


def test_install_where(fusepkg, tmp_path: Path) -> None:
    there = tmp_path / "part"
    fusepkg("install", "local/pictures:v1", "--location", there, "--where", CATS, "--as", LAYOUT)
    assert sorted(path.name for path in (there / "cat").iterdir()) == ["1.jpg", "3.jpg"]
    assert "No files have been changed" in fusepkg("status", there).stdout
    assert fusepkg("install", "local/pictures:v1", "--as", "name", check=False).returncode == 2
