#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# TCP and its round trip through a tap interface, beside QEMU's TCG.   bench/net.sh [BUILD]
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" bench/net.py --build "${1:-build}"
