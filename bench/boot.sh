#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Boot to user space, beside QEMU's TCG.   bench/boot.sh [BUILD]
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" bench/boot.py --build "${1:-build}"
