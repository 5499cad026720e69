"""The Python samples of the use cases, sample by sample, in their order.

Where a transcript below is not the document's, docs/reference/use-cases.md says why.
"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

from fusepkg import Package, PackageBuilder
from tests.samples.prompt import Samples

README = "# Dataset\n\nHere is some info about our dataset..."


def write(files: dict[str, str]) -> None:
    """Files below the working directory."""
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def publish(samples: Samples, reference: str, files: dict[str, str], *, prefix: str | None = None) -> Package:
    """A package of these files and nothing else, as the one or other publisher left it."""
    name, _, tag = samples.here(reference).partition(":")
    builder = PackageBuilder(name, quiet=True)
    folder = Path("..") / "publisher" / reference.replace("/", "_").replace(":", "_")
    for key, text in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_text(text)
    builder.add(folder, "")
    return builder.push_data_and_manifest(prefix=prefix, tag=tag or "latest")


# --- Download --------------------------------------------------------------------------------------------------


def test_download(samples: Samples) -> None:
    publish(samples, "bucket/dataset:tag", {"README.md": README, "train/1.jpg": "1"})
    samples.python("""
> pkg = Package("bucket/dataset:tag")
> pkg.download("./dataset")
> pkg.verify_directory_matches_manifest("./dataset")
True
> print(pkg.hash)
18b6a77a6ab31d304f03e01561fbc755b44746b376bcd85e6d226948876470b3
""")


class MyCustomDataset:
    def __init__(self, quilt_package_name, tag=None, hash=None) -> None:  # noqa: A002 - the document's
        self.pkg = Package(quilt_package_name, tag=tag, hash=hash)
        self.img_entries = [entry for entry in self.pkg if entry.logical_key.startswith("train/")]

        self.annotations = self.pkg.get_entry("annotations/train.json")

    def __len__(self) -> int:
        return len(self.img_entries)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        entry = self.img_entries[idx]

        # In existing codebases, annotations are often stored in a single file
        img_id = [img for img in self.annotations["images"] if img["path"] == entry.logical_key.removeprefix("train/")]

        assert len(img_id) == 1
        image_id = img_id[0]["image_id"]

        img_annotations = [ann for ann in self.annotations["annotations"] if ann["image_id"] == image_id]

        # With Quilt Packages, each entry has metadata associated with it, which
        # can be used to simplify the above code
        assert img_annotations == entry.metadata["annotations"]
        img_annotations = entry.metadata["annotations"]

        return {
            "image": entry.get_bytes(),  # Quilt takes care of the caching so you don't need to think about it.
            "annotations": img_annotations,
        }


def test_pytorch(samples: Samples) -> None:
    annotations = [{"image_id": number, "label": f"cat {number}"} for number in range(8)]
    images = [{"path": f"{number}.jpg", "image_id": number} for number in range(8)]
    write({f"train/{number}.jpg": f"image {number}" for number in range(8)})
    write({"annotations/train.json": json.dumps({"images": images, "annotations": annotations})})
    builder = PackageBuilder(samples.here("bucket/dataset"), quiet=True).add("train/").add("annotations/")
    for number in range(8):
        builder.set_meta(f"train/{number}.jpg", {"annotations": [annotations[number]]})
    top_hash = builder.push_data_and_manifest(tag="v1").hash

    wanted = [{"image": b"image %d" % number, "annotations": [annotations[number]]} for number in range(8)]
    for dataset, methods in (
        (MyCustomDataset(samples.here("bucket/dataset"), tag="v1"), ("fork", "spawn")),
        (MyCustomDataset(samples.here("bucket/dataset"), hash=top_hash), ("fork",)),
    ):
        assert len(dataset) == 8
        assert [dataset[number] for number in range(8)] == wanted
        for method in methods:  # as the workers of a DataLoader are started
            with multiprocessing.get_context(method).Pool(2) as pool:
                assert pool.map_async(dataset.__getitem__, range(8)).get(timeout=120) == wanted
                pool.close()
                pool.join()


# --- Create and publish ----------------------------------------------------------------------------------------


CREATE_AND_PUBLISH = """
#### Create a PackageBuilder and add a directory
> pkg_builder = PackageBuilder("bucket/dataset")
> pkg_builder.add("README.md")
> pkg_builder.add("train2017/")
> pkg_builder
PackageBuilder(
  name: "bucket/dataset",
  tophash: "pre-manifest",
  manifest: "pre-manifest",
  contents: [
    "README.md"  -> "./README.md"
    "train2017/" -> "./train2017/..."
  ]
)
#### Hash and build manifest
> pkg_builder.build_manifest()
Building manifest...
Tophash: 82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73
> pkg_builder
PackageBuilder(
  name: "bucket/dataset",
  tophash: "82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73",
  manifest: "local",
  contents: [
    "README.md"  -> "./README.md"
    "train2017/" -> "./train2017/..."
  ]
)
#### Try to use this PackageBuilder as a Package
> pkg = pkg_builder.as_package()
Exception: Manifest contains pointers to local files. Use push_data() to first push those files to s3 or use \
allow_local_files=True if this is intentional
> pkg = pkg_builder.as_package(allow_local_files=True)
Exception: The manifest has not been pushed to a remote repository. Use push_manifest() to first push the manifest to \
s3 or use allow_local_manifest=True if this is intentional
> pkg = pkg_builder.as_package(allow_local_files=True, allow_local_manifest=True)
> pkg.get("train2017/2.jpg")
b'2'
#### Push the local data to s3 and update the pointers. The manifest is still local
> pkg_builder.push_data(prefix="/data/dataset/v0")
Pushing ./train2017/ to s3://bucket/data/dataset/v0/train2017/...
Pushing ./README.md to s3://bucket/data/dataset/v0/README.md

> pkg_builder
PackageBuilder(
  name: "bucket/dataset",
  tophash: "82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73",
  manifest: "local",
  contents: [
    "README.md"  -> "s3://bucket/data/dataset/v0/README.md"
    "train2017/" -> "s3://bucket/data/dataset/v0/train2017/..."
  ]
)
#### Try to use PackageBuilder as Package. Reject as the manifest is not in s3 so it is not reproducible
> pkg = pkg_builder.as_package()
Exception: The manifest has not been pushed to a remote repository. Use push_manifest() to first push the manifest to \
s3 or use allow_local_manifest=True if this is intentional
#### Push the manifest to s3 - now the user has a Package
> pkg = pkg_builder.push_manifest(tag="v0")
Pushing manifest to s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=82/82111d74b46893c539e816a1119891362049b7a744dd1e18\
8b58751a8ec58b73.jsonl
Linking bucket/dataset:v0 to manifest 82111d74b

> pkg
Package(
  name: "bucket/dataset:v0",
  tophash: "82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73",
  manifest: "s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=82/82111d74b46893c539e816a1119891362049b7a744dd1e188b58751\
a8ec58b73.jsonl",
  contents: [
    "README.md"  -> "s3://bucket/data/dataset/v0/README.md"
    "train2017/" -> "s3://bucket/data/dataset/v0/train2017/..."
  ]
)

> pkg_builder.as_package()
Package(
  name: "bucket/dataset:v0",
  tophash: "82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73",
  manifest: "s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=82/82111d74b46893c539e816a1119891362049b7a744dd1e188b58751\
a8ec58b73.jsonl",
  contents: [
    "README.md"  -> "s3://bucket/data/dataset/v0/README.md"
    "train2017/" -> "s3://bucket/data/dataset/v0/train2017/..."
  ]
)
#### A Package cannot be altered. You need a PackageBuilder to make changes
> pkg.set("train2017/1.jpg", "./replacement/1.jpg", meta={})
Exception: Package has no method set(). A package never changes: make the next version of it with as_package_builder()

> pkg_builder_2 = pkg.as_package_builder()
> pkg_builder_2.set("train2017/1.jpg", "./replacement/1.jpg", meta={})
> pkg_builder_2
PackageBuilder(
  name: "bucket/dataset:v0",
  tophash: "pre-manifest",
  manifest: "pre-manifest",
  contents: [
    "README.md"       -> "s3://bucket/data/dataset/v0/README.md"
    "train2017/"      -> "s3://bucket/data/dataset/v0/train2017/..."
    "train2017/1.jpg" -> "./replacement/1.jpg"
  ]
)
#### You can push both the data and the manifest together if you want, but it is not the default behavior
> pkg = pkg_builder_2.push_data_and_manifest(prefix="/data/dataset/v0")
Copying s3://bucket/data/dataset/v0/train2017/ to s3://bucket/data/dataset/v0/train2017/... (data exists, skipping)
Pushing ./replacement/1.jpg to s3://bucket/data/dataset/v0/train2017/1.jpg
Copying s3://bucket/data/dataset/v0/README.md to s3://bucket/data/dataset/v0/README.md (data exists, skipping)

Building manifest...
Tophash: 3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97fa13439e62448

Pushing manifest to s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=3e/3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847\
f97fa13439e62448.jsonl

> pkg
Package(
  name: "bucket/dataset",
  tophash: "3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97fa13439e62448",
  manifest: "s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=3e/3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97fa13\
439e62448.jsonl",
  contents: [
    "README.md"  -> "s3://bucket/data/dataset/v0/README.md"
    "train2017/" -> "s3://bucket/data/dataset/v0/train2017/..."
  ]
)
> pkg.get("train2017/1.jpg"), Package("bucket/dataset:v0").get("train2017/1.jpg")
(b'better', b'1')
"""


def test_create_and_publish(samples: Samples) -> None:
    write({"README.md": README, "train2017/1.jpg": "1", "train2017/2.jpg": "2", "replacement/1.jpg": "better"})
    samples.python(CREATE_AND_PUBLISH)


# --- Explore dataset -------------------------------------------------------------------------------------------


def test_explore(samples: Samples) -> None:
    files = {
        "README.md": README,
        "cats/file1.txt": "meow",
        "cats/tabby/1.txt": "",
        "dogs/1": "",
        "rats/1": "",
        "other/1": "",
    }
    publish(samples, "bucket/dataset", files | {"other/huge_file.json": "[" + "1," * 100_000 + "1]"})
    samples.python("""
> pkg = Package("bucket/dataset")
> readme = pkg.readme()
> readme
# Dataset

Here is some info about our dataset...

> top_level_contents = pkg.ls()
> top_level_contents
README.md
cats/
dogs/
other/
rats/

> cats_contents = pkg.ls("cats/")
> cats_contents
cats/file1.txt
cats/tabby/

> file1_contents = pkg.get_contents("cats/file1.txt")
> file1_metadata = pkg.get_metadata("cats/file1.txt")
> file1_contents, file1_metadata
(b'meow', {})

> files_to_inspect = [entry.logical_key
...                   for entry
...                   in pkg.ls("cats/")
...                   if entry.is_file()]
> files_to_inspect
['cats/file1.txt']
""")
    # Caching to interactively work with large files
    samples.python("""
> large_file_contents = pkg.get("other/huge_file.json")
> pkg.cache("other/huge_file.json")
> large_file_contents == pkg.get("other/huge_file.json")
True
> pkg.clear_cache()  # We need the user to tell us we can clear the cache
""")


# --- Add new data to dataset -----------------------------------------------------------------------------------


ADD_NEW_DATA = """
#### Create a new Package by adding one Package to another
> new_data = Package("bucket/new-data:2019-10-30")
> new_data
Package(
  name: "bucket/new-data:2019-10-30",
  tophash: "82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73",
  manifest: "s3://bucket/.quilt/PACKAGE=new-data/HASH_PREFIX=82/82111d74b46893c539e816a1119891362049b7a744dd1e188b5875\
1a8ec58b73.jsonl",
  contents: [
    "new_data/" -> "s3://bucket/data-labelling-service/2019-10-30/..."
  ]
)

> main_dataset = Package("bucket/dataset:master")
> main_dataset
Package(
  name: "bucket/dataset:master",
  tophash: "3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97fa13439e62448",
  manifest: "s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=82/82111d74b46893c539e816a1119891362049b7a744dd1e188b58751\
a8ec58b73.jsonl",
  contents: [
    "labelled/" -> "s3://bucket/data/dataset/labelled/..."
  ]
)

> pkg_builder = main_dataset.as_package_builder()
> pkg_builder
PackageBuilder(
  name: "bucket/dataset:master",
  tophash: "pre-manifest",
  manifest: "pre-manifest",
  contents: [
    "labelled/" ->  "s3://bucket/data/dataset/labelled/..."
  ]
)

> pkg_builder.add(new_data)
> pkg_builder
PackageBuilder(
  name: "bucket/dataset:master",
  tophash: "pre-manifest",
  manifest: "pre-manifest",
  contents: [
    "labelled/" ->  "s3://bucket/data/dataset/labelled/..."
    "new_data/" ->  "s3://bucket/data-labelling-service/2019-10-30/..."
  ]
)
#### Allow logical key renaming. Fail on collisions by default
> pkg_builder.move_dir_contents("new_data/", "labelled/")
Exception: Collision detected. moving "new_data/1.jpg" to "labelled/1.jpg", but "labelled/1.jpg" already exists. Use \
overwrite=True if you would like to replace "labelled/1.jpg" with "new_data/1.jpg".

> pkg_builder.move_dir_contents("new_data/", "labelled/", overwrite=True)
> pkg_builder
PackageBuilder(
  name: "bucket/dataset:master",
  tophash: "pre-manifest",
  manifest: "pre-manifest",
  contents: [
    "labelled/" ->  "s3://bucket/data/dataset/labelled/..."
    "labelled/" ->  "s3://bucket/data-labelling-service/2019-10-30/..."
  ]
)

> pkg = pkg_builder.push_manifest(tag="master")
Building manifest...
Tophash: 3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97fa13439e62448

Pushing manifest to s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=3e/3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847\
f97fa13439e62448.jsonl
Linking bucket/dataset:master to manifest 3e6e97ccc
> [pkg.get("labelled/1.jpg"), pkg.get("labelled/2.jpg"), len(pkg)]
[b'newer', b'2', 3]
"""


def test_add_new_data(samples: Samples) -> None:
    publish(
        samples,
        "bucket/new-data:2019-10-30",
        {"1.jpg": "newer", "2.jpg": "2"},
        prefix="data-labelling-service/2019-10-30",
    )
    files = Package(samples.here("bucket/new-data:2019-10-30"))
    builder = PackageBuilder(samples.here("bucket/new-data"), quiet=True)
    builder.add(files, "new_data/").push_manifest(tag="2019-10-30")
    publish(samples, "bucket/dataset:master", {"labelled/1.jpg": "1", "labelled/3.jpg": "3"}, prefix="data/dataset")
    samples.python(ADD_NEW_DATA)


def test_incremental_download_for_consumers(samples: Samples) -> None:
    files = {"file1.txt": "1", "file2.txt": "2", "file3.txt": "3"}
    publish(samples, "bucket/dataset:before", files)
    publish(samples, "bucket/dataset:removed_some_items_changed_one_item", {"file3.txt": "changed"})
    Package(samples.here("bucket/dataset:before")).download("./dataset")
    Path("dataset/file3.txt").write_text("changed by the user")  # else the download brings the new one
    samples.python("""
> pkg = Package("bucket/dataset:removed_some_items_changed_one_item")
> pkg.download("./dataset")
> pkg.verify_directory_matches_manifest("./dataset")
False
./dataset/file1.txt exists locally, but does not exist in the manifest \
bucket/dataset:removed_some_items_changed_one_item
./dataset/file2.txt exists locally, but does not exist in the manifest \
bucket/dataset:removed_some_items_changed_one_item
./dataset/file3.txt exists locally, but contents do not match manifest \
bucket/dataset:removed_some_items_changed_one_item
This can be fixed by calling pkg.force_directory_to_match_manifest("./dataset")
""")
    changed = Package(samples.here("bucket/dataset:removed_some_items_changed_one_item"))["file3.txt"].record
    samples.python(f"""
> pkg.force_directory_to_match_manifest("./dataset")
Changes:
  ./dataset/file1.txt removed
  ./dataset/file2.txt removed
  ./dataset/file3.txt replaced with {changed.physical_key.readable}

> pkg.verify_directory_matches_manifest("./dataset")
True
""")


# --- Improve dataset -------------------------------------------------------------------------------------------


def test_improve(samples: Samples) -> None:
    publish(samples, "bucket/dataset:master", {"labelled/1.jpg": "1"}, prefix="data/dataset")
    samples.python("""
> pkg = Package("bucket/dataset:master")
> pkg
Package(
  name: "bucket/dataset:master",
  tophash: "82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73",
  manifest: "s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=82/82111d74b46893c539e816a1119891362049b7a744dd1e188b58751\
a8ec58b73.jsonl",
  contents: [
    "labelled/" -> "s3://bucket/data/dataset/labelled/..."
  ]
)

> pkg_builder = pkg.as_package_builder()
> pkg_builder.set_meta("labelled/1.jpg", meta={})
> pkg_builder.set_meta("labelled/1.jpg", meta={"label": "cat"})
> pkg = pkg_builder.push_manifest(tag="master")
Building manifest...
Tophash: 3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97fa13439e62448

Pushing manifest to s3://bucket/.quilt/PACKAGE=dataset/HASH_PREFIX=3e/3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847\
f97fa13439e62448.jsonl
Linking bucket/dataset:master to manifest 3e6e97ccc
> pkg.get_metadata("labelled/1.jpg"), pkg.get("labelled/1.jpg")
({'label': 'cat'}, b'1')
""")


# --- Store entire workspace ------------------------------------------------------------------------------------


def test_store_entire_workspace(samples: Samples) -> None:
    write({"train.py": "print('training')", "model.bin": "weights", "scratch/big": "no", ".quiltignore": "scratch/\n"})
    samples.python("""
> pkg = PackageBuilder("bucket/temp:2019-10-31").add(".").push_data_and_manifest(prefix="armand/temp/2019-10-31/")
Pushing ./ to s3://bucket/armand/temp/2019-10-31/...

Building manifest...
Tophash: 3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97fa13439e62448

Pushing manifest to s3://bucket/.quilt/PACKAGE=temp/HASH_PREFIX=3e/3e6e97cccc554c210a5e6eb70f77367fd05abfd4c4da5847f97\
fa13439e62448.jsonl
Linking bucket/temp:2019-10-31 to manifest 3e6e97ccc
> [entry.logical_key for entry in pkg]
['.quiltignore', 'model.bin', 'train.py']
""")
