# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034
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

# store_options KIND "NAMES" "DEFAULT" ARGUMENTS...: sets store, refresh and names. The script's head is its help.
store_options() {
    kind=$1 known=$2 names='' refresh=no store=$(store_default)
    default=$3
    shift 3
    while [ $# -gt 0 ]; do
        case $1 in
        --store) [ $# -ge 2 ] || fail "--store needs a directory"; store=$2; shift ;;
        --store=*) store=${1#--store=} ;;
        --refresh) refresh=yes ;;
        -h | --help) sed -n '3,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *)
            case " $known " in
            *" $1 "*) names="$names $1" ;;
            *) fail "unknown $kind or option '$1': the ${kind}s are $known" ;;
            esac
            ;;
        esac
        shift
    done
    [ -n "$names" ] || names=" $default"
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
