#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The software CPU, QEMU's TCG and the bare host side by side: bench/cpu.py with its defaults.   bench/cpu.sh [BUILD] [OPTIONS OF cpu.py]
set -eu
build=build
case ${1:-} in '' | --*) ;; *) build=$1; shift ;; esac
exec "${PYTHON:-python3}" "$(dirname "$0")/cpu.py" --build "$build" "$@"
