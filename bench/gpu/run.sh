#!/usr/bin/env bash
# run.sh [OUT]: on a machine with a GPU: the op tests, every kernel alone, whole decode steps. JSON
# goes to OUT (default: build/bench-gpu). Needs the benches built: ninja -C build/release
# kernels_cuda_test bench_gpu_ops bench_gpu_step.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${TROUPE_BUILD:-build/release}
out=${1:-build/bench-gpu}
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv
"$build/tests/kernels_cuda_test" --gtest_brief=1
"$build/bin/bench_gpu_ops" "$out/ops.json"
"$build/bin/bench_gpu_step" --json "$out/step.json"
