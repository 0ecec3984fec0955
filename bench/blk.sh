#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# virtio-blk reads, beside QEMU's TCG.   bench/blk.sh [BUILD]
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" bench/blk.py --build "${1:-build}"
