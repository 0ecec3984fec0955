#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh OUT: the guest's program, static, the same for every processor that is compared.
set -eu
out=$1
here=$(dirname "$0")
cc=${CC:-gcc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags='-O2 -g -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -fno-math-errno'
# shellcheck disable=SC2086 # flags are several words
{
    for unit in runner integer system programs; do
        $cc $flags -c "$here/$unit.c" -o "$work/$unit.o"
    done
    $cc $flags -O3 -msse2 -DSUFFIX=sse2 -c "$here/floats.c" -o "$work/sse2.o"
    $cc $flags -O3 -mavx2 -mfma -DSUFFIX=avx2 '-DNAME_END="-avx2"' -c "$here/floats.c" -o "$work/avx2.o"
    $cc $flags -mfpmath=387 -DSUFFIX=x87 '-DNAME_END="-x87"' '-DREAL=long double' -c "$here/floats.c" -o "$work/x87.o"
    $cc -static -pthread -o "$out" "$work"/*.o
}
