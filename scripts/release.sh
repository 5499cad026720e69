#!/usr/bin/env bash
# Builds the distributions of the version in pyproject.toml into dist/, and tries the wheel in an empty environment.
# Uploads nothing: docs/releasing.md says what comes before and after. Called by `make release`.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin

fail() { printf '%s\n' "$*" >&2; exit 1; }

[ -x $bin/uv ] || $bin/python -m pip --disable-pip-version-check install --quiet uv  # make setup leaves it out where pip has an index of its own

version=$($bin/python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
[ -z "$(git status --porcelain)" ] || fail "There are uncommitted changes: commit or stash them first"
[ "$($bin/python -c 'import fusepkg; print(fusepkg.__version__)')" = "$version" ] ||
  fail "fusepkg/__init__.py says another version than pyproject.toml ($version): change __version__"
grep -q "^## $version " CHANGELOG.md ||
  fail "CHANGELOG.md has no section '## $version (DATE)': rename 'Unreleased', and begin a new one above it"
if git rev-parse -q --verify "refs/tags/v$version" >/dev/null; then
  fail "The tag v$version exists: a released version is never built again. Raise the version"
fi

rm -rf dist
$bin/uv build --quiet --out-dir dist || fail "The build failed"
trial=$(mktemp -d)
trap 'rm -rf "$trial"' EXIT
$bin/python -m venv "$trial/venv"
VIRTUAL_ENV=$trial/venv $bin/uv pip install --quiet dist/*.whl -c requirements.lock
said=$(cd "$trial" && HOME=$trial venv/bin/fusepkg --version)
[ "$said" = "$version" ] || fail "The installed wheel says '$said' instead of '$version'"
mkdir "$trial/tree" && echo hello >"$trial/tree/hello.txt"
(cd "$trial" && export HOME=$trial && venv/bin/fusepkg push tree local/release:v1 >/dev/null 2>&1 &&
  [ "$(venv/bin/fusepkg cat local/release:v1 hello.txt)" = hello ]) || fail "The installed wheel does not publish and read"
ls -l dist
echo "Built and tried. Next: git tag -s v$version, push the tag, upload dist/* (docs/releasing.md)"
