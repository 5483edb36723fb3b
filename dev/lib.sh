# Shared by the verbs in dev/: where things are kept, how phases are shown, how help is printed.
# Sourced, never run.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export TROUPE_CACHE=${TROUPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/troupe}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$TROUPE_CACHE/cargo-target}
export CCACHE_DIR=${CCACHE_DIR:-$TROUPE_CACHE/ccache}
export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-8G}
BUILD=$ROOT/build/release
JOBS=${TROUPE_JOBS:-$(nproc)}

# A verb's help is its own opening comment.
help_if_asked() {
  for arg in "$@"; do
    case $arg in
      -h | --help)
        sed -n '2,/^$/{/^$/q;s/^# \{0,1\}//;p}' "$0"
        exit 0
        ;;
    esac
  done
}

if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\e[1m' PLAIN=$'\e[0m'; else BOLD='' PLAIN=''; fi
say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

# phases N, then `phase "what" seconds` N times: prints "phase n/m: what (about s left)".
PHASE=0 PHASES=0 PHASE_LEFT=0
phases() { PHASES=$1 PHASE=0 PHASE_LEFT=$2; }
phase() {
  PHASE=$((PHASE + 1))
  local left=''
  [ "$PHASE_LEFT" -gt 20 ] && left=" (about $(((PHASE_LEFT + 30) / 60)) min left)"
  [ "$PHASE_LEFT" -gt 20 ] && [ "$PHASE_LEFT" -lt 60 ] && left=" (less than a minute left)"
  say "${BOLD}phase $PHASE/$PHASES: $1$left$PLAIN"
  PHASE_LEFT=$((PHASE_LEFT - ${2:-0}))
}

# have_version COMMAND MINIMUM: is it there, and at least so new?
have_version() {
  command -v "$1" >/dev/null 2>&1 || return 1
  local found
  case $1 in
    go) found=$(go env GOVERSION 2>/dev/null | sed 's/^go//') ;;
    *) found=$("$1" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -1) ;;
  esac
  [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$2" "$found" | sort -V | head -1)" = "$2" ]
}

configure() { # configure PRESET [cmake arguments]
  local preset=$1
  shift
  (cd "$ROOT" && cmake --preset "$preset" "$@") >"$TROUPE_CACHE/configure.log" 2>&1 || {
    tail -n 30 "$TROUPE_CACHE/configure.log" >&2
    die "configuring failed; the whole log: $TROUPE_CACHE/configure.log"
  }
}

# configure_product: without the tests and their packages, unless this tree builds them already.
configure_product() {
  local tests=OFF
  # A tree whose configuring failed has a cache and nothing else: its answer does not count.
  [ -f "$BUILD/build.ninja" ] && grep -qs "TROUPE_TESTS:BOOL=ON" "$BUILD/CMakeCache.txt" && tests=ON
  configure release -B "$BUILD" -DTROUPE_TESTS=$tests "$@"
}

# What wheels and bundles carry: no tests, the small image decoders, and no OpenCV, whose Debian package brings
# X11, OpenGL and LAPACK along (docs/dependencies.md). With ccache it costs little beside build/release.
build_shipped() {
  BUILD=$ROOT/build/shipped
  configure release -B "$BUILD" -DTROUPE_TESTS=OFF -DTROUPE_OPENCV=OFF -DTROUPE_CODECS=small
  build_quietly all
}

# plain_names: libpgm-5.3.so.0 and what auditwheel makes of it, libpgm-5-1a2b3c4d.3.so.0, are libpgm.so.
plain_names() { sed -E 's|.*/||; s/-[0-9a-f]{8}\././; s/(-[0-9.]+)?\.so.*/.so/' | sort -u; }

# check_libraries NAME...: every library that is shipped stands in docs/dependencies.md.
check_libraries() {
  local name known
  known=$(sed -n '/^## What is shipped/,/^## /p' "$ROOT/docs/dependencies.md")
  for name in "$@"; do
    grep -qF "\`$name\`" <<<"$known" || die "$name is not among the shipped libraries of docs/dependencies.md"
  done
}

# Ninja's output as one line that redraws itself on a terminal, as nothing elsewhere.
progress_line() {
  [ -t 2 ] || { cat >/dev/null; return; }
  sed -un 's/^\(\[[0-9]*\/[0-9]*\]\).*/\1/p' | while read -r at; do printf '\r  %s ' "$at" >&2; done
  printf '\r\e[K' >&2
}

# build_quietly TARGET...: builds; what the compilers say goes to a log, shown when the build fails.
build_quietly() {
  local log=$TROUPE_CACHE/build.log
  cmake --build "$BUILD" -j "$JOBS" --target "$@" 2>&1 | tee "$log" | progress_line || {
    grep -E 'error|FAILED' "$log" | head -n 20 >&2 || true
    die "building failed; the whole log: $log"
  }
}

mkdir -p "$TROUPE_CACHE"
