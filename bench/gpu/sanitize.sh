#!/usr/bin/env bash
# sanitize.sh [memcheck|racecheck|synccheck [FILTER]]: on a machine with a GPU: the op tests under
# compute-sanitizer, several processes side by side. FILTER is googletest's; without one it is the
# kernels' own tests and every op in bf16 (in other types the same kernels run). Kernels of cuBLASLt are
# not ours and left out: racecheck names hazards in them. Logs go to build/sanitize-gpu; ends with an
# error if a test fails or the tool reports anything. Needs: ninja -C build/release kernels_cuda_test.
set -euo pipefail
cd "$(dirname "$0")/../.."
tool=${1:-memcheck} filter=${2:--*_f16:*_f32}
tests=${TROUPE_BUILD:-build/release}/tests/kernels_cuda_test
out=build/sanitize-gpu
fail() { echo "sanitize.sh: $*" >&2; exit 1; }

case $tool in memcheck | racecheck | synccheck) ;; *) fail "no tool '$tool'; there are memcheck, racecheck and synccheck" ;; esac
sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer) || fail 'compute-sanitizer is neither in PATH nor in /usr/local/cuda/bin; it is part of the CUDA toolkit'
[ -x "$tests" ] || fail "$tests is not there; ninja -C build/release kernels_cuda_test makes it"
nvidia-smi -L || fail 'no GPU: nvidia-smi finds none'

mkdir -p "$out"
rm -f "$out/$tool".*.log
shards=$(($(nproc) < 12 ? $(nproc) : 12)) running=() failed=0
for ((shard = 0; shard < shards; ++shard)); do
  GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$shard "$sanitizer" --tool "$tool" --error-exitcode 9 \
    --kernel-name-exclude kns=nvjet --kernel-name-exclude kns=cublas \
    "$tests" --gtest_filter="$filter" > "$out/$tool.$shard.log" 2>&1 &
  running+=($!)
done
for process in "${running[@]}"; do wait "$process" || failed=1; done

grep -h 'SUMMARY\|FAILED\|Error: \|Internal' "$out/$tool".*.log | sort | uniq -c || true
count() { cat "$out/$tool".*.log | grep -c "^\[ *$1 \]" || true; }
echo "$tool: $(count OK) tests passed, $(count SKIPPED) skipped"
[ "$failed" = 0 ] || fail "$tool reported something, or a test failed; logs are in $out"
