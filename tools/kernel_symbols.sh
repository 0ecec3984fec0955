#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Asks guest kernels for their symbols, for profiles: the distribution's own System.map is in its debugging packages only.
#
#   kernel_symbols.sh [--store DIR] [--refresh] cloud [generic rt]
#
# Result: DIR/kernels/NAME/System.map, from /proc/kallsyms of a guest: kernels are loaded at their own addresses, so it is the same in
# each. LODGE names the program (build/bin/lodge); the image busybox is needed.
set -eu

# shellcheck source=tools/store.sh
. "$(dirname "$0")/store.sh"

store_options kernel "cloud generic rt" "cloud" "$@"
lodge=${LODGE:-$(dirname "$0")/../build/bin/lodge}
for name in $names; do
    place=$store/kernels/$name
    [ -e "$place/vmlinuz" ] || fail "kernel '$name' is not in '$store': fetch it with fetch_kernel.sh $name"
    [ ! -e "$place/System.map" ] || [ "$refresh" = yes ] || continue
    new=$place/.System.map.$$
    trap 'rm -f "$new"' EXIT
    # Modules are loaded where there is room: not the same in each guest.
    LODGE_HOME=$store "$lodge" run --vm -q --kernel "$name" busybox grep -v '\[' /proc/kallsyms >"$new"
    grep -q ' T _text$' "$new" || fail "the guest did not show its symbols"
    mv "$new" "$place/System.map"
    say "$name: $(grep -c . "$place/System.map") symbols"
done
