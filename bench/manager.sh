#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench/manager.sh BUILD [ARGS of bench/manager.py]: the manager's bars. Needs root and the busybox image.
set -e
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-build}
[ $# -gt 0 ] && shift
exec "${PYTHON:-/usr/bin/python3}" "$here/manager.py" --build "$build" "$@"
