#!/usr/bin/env bash
# The main job, on the embedded registry: publish a real tree, mount it, use it, see how little was fetched, unmount.
# Needs no account and no server. Called by `make demo`, which sets everything up first.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/fusepkg-demo.XXXXXX")
export FUSEPKG_DATA_DIR=$scratch/data FUSEPKG_CACHE_DIR=$scratch/cache
export PATH=$root/.venv/bin:$PATH
export FUSEPKG_COPY_LOCAL=1  # `local` stands for a bucket here: its objects are fetched, not read where they lie

finish() {
  cd /
  if mountpoint -q "$scratch/dataset" 2>/dev/null; then fusepkg umount --lazy "$scratch/dataset" || true; fi
  rm -rf --one-file-system "$scratch"  # never into a mount that would not go
}
trap finish EXIT

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; eval "$*"; }
fetched() {
  fusepkg status --json dataset | python -c '
import json, sys
facts = json.load(sys.stdin)
bytes_, total = facts["counters"]["fetched_bytes"], facts["total_bytes"]
print("--> fetched so far: {:,} of {:,} files, {:.1f} of {:.1f} MiB, {:.1%}".format(
    facts["counters"]["fetched_objects"], facts["entries"], bytes_ / 2**20, total / 2**20, bytes_ / total))'
}

cd "$scratch"
mkdir tree dataset

say "A dataset: this environment's own site-packages, and labels in SQLite"
cp -a "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/." tree/
find tree -name __pycache__ -prune -exec rm -rf {} +
python - <<'PY'
import sqlite3
labels = sqlite3.connect("tree/labels.sqlite")
labels.execute("create table labels (image text primary key, label text)")
rows = ((f"img_{number:06}.jpg", "cat" if number % 3 else "dog") for number in range(20_000))
labels.executemany("insert into labels values (?, ?)", rows)
labels.commit()
PY
run "find tree -type f | wc -l; du -sh tree | cut -f1"

say "Publish it as a version of a package; the tag v1 names it"
run "fusepkg push tree local/site-packages:v1 -m 'The environment as a dataset'"

say "Mount it: the directory is there at once, and nothing has been fetched"
run "time fusepkg mount local/site-packages:v1 dataset"
run "find dataset -type f | wc -l"
fetched

say "Use it: plain files for any program"
run "PYTHONPATH=dataset python -B -S -c 'import boto3; print(boto3.__version__, boto3.__file__)'"
run "grep -rl 'class CancelScope' dataset/trio | head -3"
run "python -c \"import sqlite3; print(sqlite3.connect('file:dataset/labels.sqlite?mode=ro&immutable=1', uri=True).execute('select label, count(*) from labels group by label').fetchall())\""
run "tar cf - -C dataset rich | tar tf - | wc -l"
run "fusepkg stat dataset/labels.sqlite"
fetched

say "It cannot be changed"
run "touch dataset/new || true"

say "Check every byte against the manifest, and against the original"
run "fusepkg verify dataset"
run "diff -r tree dataset && echo identical"
fetched

say "Publish a correction as v2: only what is new is uploaded, and v1 stays what it was"
run "echo reviewed > tree/REVIEWED.txt"
run "fusepkg push tree local/site-packages:v2 -m Reviewed"
run "fusepkg tags local/site-packages"

say "Unmount"
run "fusepkg umount dataset"
run "ls dataset | wc -l"
