#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench/model.sh BUILD [...]: the planner's simulators against their bars; bench/model.py says more.
set -eu
build=${1:-build}
[ $# -eq 0 ] || shift
exec "${PYTHON:-/usr/bin/python3}" "$(dirname "$0")/model.py" --build "$build" "$@"
