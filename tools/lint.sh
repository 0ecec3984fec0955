#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317 # the checks are called by name
# Everything that can be said about the code without running it. Goes through all checks, then fails if any did.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
failed=0

check() {
    label=$1
    shift
    if "$@" >"$log" 2>&1; then
        printf 'ok    %s\n' "$label"
    else
        printf 'FAIL  %s\n' "$label"
        cp "$log" "$build/lint-failure.log"
        grep -E "(warning|error):" "$log" | sort -u | head -n 60 || true
        printf "      whole output: %s\n" "$build/lint-failure.log"
        failed=1
    fi
}

c_files() { git ls-files '*.c' '*.h' | grep -v 'soft/decode/insn_ids.h'; }

format_check() { c_files | xargs clang-format --dry-run --Werror; }

second_compiler() {
    [ -f "$build-clang/build.ninja" ] || CC=clang meson setup "$build-clang"
    ninja -C "$build-clang"
}

tidy_check() {
    # Only what the compilation database knows, two at a time.
    git ls-files 'src/*.c' | grep -v '^src/guest/' |
        xargs -P 2 -n 4 clang-tidy --quiet -p "$build-clang" --warnings-as-errors='*'
}

shell_check() { git ls-files -z bootstrap .ci/run 'tools/*.sh' 'bench/*.sh' | xargs -0 shellcheck -x; }

manual_check() { git ls-files -z 'docs/man/*.[1-8]' | xargs -0 mandoc -T lint -W warning; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
check 'folder edges' "${PYTHON:-python3}" tools/check_edges.py
check 'cleanups' "${PYTHON:-python3}" tools/check_cleanup.py
check 'clang-format' format_check
check 'shellcheck' shell_check
check 'manual pages' manual_check
check 'clang, all warnings' second_compiler
check 'clang-tidy' tidy_check
exit "$failed"
