# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Sourced by the scripts that fill the store: where it is, and entries that are whole or absent. An entry is made in $work, a
# directory beside its place with the process's number in its name, and renamed when it is whole.

script_name=$(basename "$0" .sh)
say() { printf '%s: %s\n' "$script_name" "$*"; }
fail() { printf '%s: %s\n' "$script_name" "$*" >&2; exit 1; }

# Beside the sources their build is the store; installed, it is the host's, or the user's own.
store_default() {
    top=$(cd "$(dirname "$0")/.." && pwd)
    if [ -n "${LODGE_HOME:-}" ]; then
        echo "$LODGE_HOME"
    elif [ -f "$top/meson.build" ]; then
        echo "$top/build/guest"
    elif [ "$(id -u)" = 0 ]; then
        echo /var/lib/lodge
    else
        echo "${XDG_DATA_HOME:-$HOME/.local/share}/lodge"
    fi
}

# store_open DIR KIND: makes DIR/KIND and removes what killed runs left in it. Sets store and work.
store_open() {
    mkdir -p "$1/$2" || fail "cannot create '$1/$2': choose another with --store"
    store=$(cd "$1" && pwd)
    work=
    trap '[ -z "$work" ] || rm -rf --one-file-system "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for old in "$store/$2"/.new.*; do
        [ -d "$old" ] || continue
        kill -0 "${old##*.}" 2>/dev/null || rm -rf --one-file-system "$old"
    done
}

# store_put FINAL: what is in $work becomes FINAL, in the place of what was there.
store_put() {
    if [ -e "$1" ]; then
        rm -rf --one-file-system "$1.old"
        mv "$1" "$1.old"
    fi
    mv -T "$work" "$1"
    work=
    rm -rf --one-file-system "$1.old"
}
