#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lodge-oci beside the distribution's crun and runc, and the bare minimum (bench/oci_floor.c).
# Needs root; packages crun, runc, busybox, strace and time for the full table. LODGE_BENCH_NEWER names a root file system
# (debootstrap --variant=minbase --include=crun trixie DIR) with a newer crun, for a further column.
set -eu
build=${1:-build}
rounds=${2:-20}
ninja -C "$build" bin/lodge-oci bench/oci_floor >/dev/null
mkdir -p bench/results
# In a mount namespace of its own. crun's pivot_root wants its root to be a mount.
# shellcheck disable=SC2016 # expanded by the inner shell
unshare -m sh -c '
    umount /sys/fs/cgroup/unified 2>/dev/null || true
    if [ -n "${LODGE_BENCH_NEWER:-}" ]; then
        mount --bind "$LODGE_BENCH_NEWER" "$LODGE_BENCH_NEWER"
        for place in proc sys dev run; do
            mount --rbind "/$place" "$LODGE_BENCH_NEWER/$place"
        done
    fi
    exec "$@"' sh \
    "${PYTHON:-/usr/bin/python3}" bench/oci_bench.py "$build/bin/lodge-oci" "$build/bench/oci_floor" "$rounds" \
    bench/results/oci.json |
    tee bench/results/oci.txt
