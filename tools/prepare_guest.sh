#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that guests need, from the distribution's packages, into BUILD/guest: kernels and images. Quick when it is all there.
#   tools/prepare_guest.sh [BUILD] [KERNEL...]     kernels: cloud (default), generic, rt
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- cloud generic rt

tools/fetch_kernel.sh --store "$build/guest" "$@"
tools/make_images.sh --store "$build/guest" busybox debian
