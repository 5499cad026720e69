#!/usr/bin/env bash
# Makes this machine ready: missing system packages, then .venv with everything Python.
#
#   scripts/setup.sh run     what fusepkg itself needs (make demo)
#   scripts/setup.sh test    and the tools and servers of the tests (make test)
#   scripts/setup.sh bench   and what the benchmarks compare with (make bench)
#   scripts/setup.sh dvc     DVC in an environment of its own, .venv-dvc, for the same
#   scripts/setup.sh heavy   an environment of its own, .venv-heavy, with PyTorch, Spark and others (make test-heavy)
#
# Safe to repeat, and quick when nothing is missing. PYTHON chooses the interpreter. Releases are those of
# requirements.lock; uv installs them, or pip where pip is told of a package index of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

level=${1:-test}
case $level in
  run | test | bench) venv=.venv ;;
  heavy | dvc) venv=.venv-$level ;;
  *) echo "usage: $0 run|test|bench|heavy|dvc" >&2; exit 2 ;;
esac

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf '\033[1;31m==> %s\033[0m\n' "$*" >&2; exit 1; }

# --- system packages -----------------------------------------------------------------------------------------

# An interpreter that can make an environment and build pyfuse3 in it.
usable() {
  command -v "$1" >/dev/null && "$1" - 2>/dev/null <<'PY'
import sys, ensurepip, os, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(0 if sys.version_info >= (3, 11) and os.path.exists(header) else 1)
PY
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 /usr/bin/python3 python3.13 python3.12 python3.11}; do
    if usable "$candidate"; then command -v "$candidate"; return 0; fi
  done
  return 1
}

can_compile() { echo '#include <stdlib.h>' | gcc -fsyntax-only -xc -; }

required=() optional=()
need() { local packages=$1; shift; "$@" >/dev/null 2>&1 || required+=($packages); }
want() { local packages=$1; shift; "$@" >/dev/null 2>&1 || optional+=($packages); }

need "python3 python3-venv python3-dev" find_python
need "gcc libc6-dev" can_compile
need "pkg-config libfuse3-dev" pkg-config --exists fuse3
need fuse3 command -v fusermount3
if [ "$level" != run ]; then
  # Without these the tests that need them are skipped, and say so at the end.
  want ceph-common command -v ceph
  want ceph-mon command -v ceph-mon
  want ceph-osd command -v ceph-osd
  want radosgw command -v radosgw
  want rsync command -v rsync
  want ffmpeg command -v ffmpeg
  want prometheus command -v promtool
  want sqlite3 command -v sqlite3
  want git command -v git
  want erofs-utils command -v fsck.erofs
  want squashfs-tools command -v mksquashfs
fi
if [ "$level" = bench ]; then
  want haproxy command -v haproxy
  want s3fs command -v s3fs
fi

install_packages() {
  command -v apt-get >/dev/null || { echo "no apt-get here; install what corresponds to: $*" >&2; return 1; }
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "not root, and no sudo; as root: apt-get install $*" >&2; return 1; }
    as_root=(sudo)
    [ -t 0 ] || as_root=(sudo -n)
  fi
  say "System packages: $*"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update </dev/null || return 1
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get -qq install -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" </dev/null >/dev/null || return 1
}

if [ ${#required[@]} -gt 0 ]; then
  install_packages "${required[@]}" || fail "These system packages are needed and missing: ${required[*]}"
fi
if [ ${#optional[@]} -gt 0 ]; then
  install_packages "${optional[@]}" || say "Going on without: ${optional[*]}. What needs them will be skipped"
fi

# --- the environment -----------------------------------------------------------------------------------------

inputs() { sha256sum pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1; }
inputs_and_lock() { echo "$(inputs) $(sha256sum <requirements.lock)"; }
done_at() { [ "$(cat "$venv/.setup-$1.lock" 2>/dev/null)" = "$(inputs_and_lock)" ]; }
case $level in run) enough="run test bench" ;; test) enough="test bench" ;; *) enough=$level ;; esac
for one in $enough; do
  if "$venv/bin/python" -c '' 2>/dev/null && done_at "$one"; then exit 0; fi
done

if ! "$venv/bin/python" -c '' 2>/dev/null; then
  python=$(find_python) || fail "No Python 3.11 or later with venv and headers. Set PYTHON=/path/to/python3"
  say "Environment: $venv of $("$python" --version) ($python)"
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
what=(-e . -c requirements.lock)
case $level in
  run) ;;
  test) what+=(--group dev) ;;
  bench | heavy) what+=(--group dev --group "$level") ;;
  dvc) what=(--group dvc) ;;  # a program beside ours, with older releases of what both use
esac
pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet)

# uv reads nothing of pip's configuration, and of the system's certificates only if told to: those of a company's proxy
# lie there. Compiled at once, as pip does: what the compiler warns of in libraries
# would be an error in the first test that imports them. Files that pip is told to find (PyTorch without CUDA) uv finds too.
settings=$("$venv/bin/python" -m pip --disable-pip-version-check config list 2>/dev/null || true)  # --quiet tells none
own_index() { grep -Eq '[.](index-url|no-index)=' <<<"$settings"; }
links=$(sed -n "s/.*[.]find-links='\(.*\)'$/\1/p" <<<"$settings" | tail -n 1)
[ -z "$links" ] || export UV_FIND_LINKS=${links// /,}

say "Python packages (half a minute)"
if ! own_index && { [ -x "$venv/bin/uv" ] || "${pip[@]}" install uv </dev/null; }; then
  UV_SYSTEM_CERTS=1 VIRTUAL_ENV=$PWD/$venv "$venv/bin/uv" pip install --quiet --compile-bytecode "${what[@]}" </dev/null
else
  "${pip[@]}" install "pip>=25.1" </dev/null  # the first that knows dependency groups
  "${pip[@]}" install "${what[@]}" </dev/null
fi
inputs >"$venv/.setup-$level"
inputs_and_lock >"$venv/.setup-$level.lock"
