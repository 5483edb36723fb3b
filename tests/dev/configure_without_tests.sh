#!/usr/bin/env bash
# dev/demo configures on a machine that has only what dev/setup --for demo installs: without the
# packages of the tests.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=/dev/null
source "$root/dev/lib.sh"
BUILD=$(mktemp -d)
trap 'rm -rf "$BUILD"' EXIT
grep -q configure_product "$root/dev/demo"
echo TROUPE_TESTS:BOOL=ON >"$BUILD/CMakeCache.txt" # what an earlier, failed configuring may leave
hidden=()
for package in GTest benchmark Python3; do hidden+=("-DCMAKE_DISABLE_FIND_PACKAGE_$package=ON"); done
configure_product "${hidden[@]}"
