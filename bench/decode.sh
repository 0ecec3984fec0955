#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Nanoseconds per decoded instruction over the code of a real program.
set -eu
build=${1:-build}
ninja -C "$build" bench/bench_decode >/dev/null
mkdir -p bench/results
"$build/bench/bench_decode" /bin/bash | tee bench/results/decode.txt
