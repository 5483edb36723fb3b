#!/usr/bin/env bash
# run.sh [OUT [LENGTHS.json]]: on a machine with a GPU: the op tests, every kernel alone, whole decode
# steps, the engine's table (engine.py; its serving row needs LENGTHS). JSON goes to OUT (default:
# build/bench-gpu). Needs what it runs: ninja -C build/release all bench_gpu_ops bench_gpu_step.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${TROUPE_BUILD:-build/release}
out=${1:-build/bench-gpu}
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv

# Most of the op tests' time is the plain definitions' on the CPU: they run side by side.
shards=$(($(nproc) < 10 ? $(nproc) : 10)) tests=()
for ((shard = 0; shard < shards; ++shard)); do
  GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$shard "$build/tests/kernels_cuda_test" --gtest_brief=1 &
  tests+=($!)
done
for test in "${tests[@]}"; do wait "$test"; done

"$build/bin/bench_gpu_ops" "$out/ops.json"
"$build/bin/bench_gpu_step" --json "$out/step.json"
bench/gpu/shapes.py "$out/shapes"
bench/gpu/engine.py "$out/shapes" ${2:+--lengths "$2"} --out "$out/engine.json"
