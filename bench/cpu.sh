#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The software CPU's tiers, QEMU's TCG and the bare host on the same work, interleaved: bench/cpu.py with its defaults.
#   bench/cpu.sh [BUILD] [--rounds N] [--seconds S] [--only KERNEL] [--engines native,tcg,interp,translate]
set -eu
build=build
case ${1:-} in '' | --*) ;; *) build=$1; shift ;; esac
exec python3 "$(dirname "$0")/cpu.py" --build "$build" "$@"
