#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every benchmark: what is in bench/, each beside its peer where that is installed. Results go to bench/results/.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
mkdir -p bench/results
for script in bench/*.sh; do
    [ -f "$script" ] || continue
    printf '== %s\n' "$script"
    sh "$script" "$build"
done
