#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The main job, seen: one image and one command as a container and as a virtual machine, side by side.
#   tools/demo.sh [BUILD]
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" tools/demo.py "${1:-build}"
