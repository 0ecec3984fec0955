#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench/policy.sh BUILD [HOSTS INSTANCES]: what the decisions cost, against their bars.
set -eu
build=${1:-build}
[ $# -eq 0 ] || shift
ninja -C "$build" bench/bench_policy >/dev/null
exec "$build/bench/bench_policy" "$@"
