#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lodge-oci beside the distribution's crun and runc, and the bare minimum (bench/oci_floor.c).
# Needs root; packages crun, runc, busybox, strace and time for the full table.
set -eu
build=${1:-build}
rounds=${2:-20}
ninja -C "$build" bin/lodge-oci bench/oci_floor >/dev/null
mkdir -p bench/results
unshare -m sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null || true; exec "$@"' sh \
    "${PYTHON:-/usr/bin/python3}" bench/oci_bench.py "$build/bin/lodge-oci" "$build/bench/oci_floor" "$rounds" \
    bench/results/oci.json |
    tee bench/results/oci.txt
