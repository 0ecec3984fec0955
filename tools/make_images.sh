#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the local images from distribution packages:
#
#   make_images.sh [--store DIR] [--refresh] busybox debian [bench] [torture]
#
# busybox: one static program and its names. debian: a minimal Debian 12 (mmdebstrap or debootstrap).
# bench: the programs that bench/cpu.py runs (Lua, SQLite, Python, gzip, zstd, gcc), and no more (mmdebstrap).
# torture: Debian with what the tests of the software processor run (a compiler, language runtimes, stress-ng).
# Result: DIR/images/NAME/{config.json,rootfs/}, complete or absent: made beside its place and renamed
# when whole. An image that is there already costs one look; --refresh builds again. The disk image
# that a VM boots from is made by `lodge` once per digest.
set -eu

# shellcheck source=tools/store.sh
. "$(dirname "$0")/store.sh"

store_options image "busybox debian bench torture" "busybox debian" "$@"

store_open "$store" images

skeleton() {
    root=$1
    mkdir -p "$root/bin" "$root/sbin" "$root/usr/bin" "$root/usr/sbin" "$root/etc" "$root/dev" "$root/proc" \
        "$root/sys" "$root/run" "$root/root" "$root/var/log" "$root/home" "$root/mnt"
    mkdir -p "$root/tmp" "$root/var/tmp"
    chmod 1777 "$root/tmp" "$root/var/tmp"
    chmod 700 "$root/root"
    printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >"$root/etc/hosts"
    printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
}

build_busybox() {
    root=$1
    program=/bin/busybox
    if ! dpkg-query -W -f='${Status}' busybox-static 2>/dev/null | grep -q 'ok installed'; then
        say "busybox: downloading busybox-static"
        mkdir "$work/package"
        (cd "$work/package" && apt-get -qq -o APT::Sandbox::User=root download busybox-static) >"$work/log" 2>&1 ||
            { apt-get -qq update && (cd "$work/package" && apt-get -qq -o APT::Sandbox::User=root download busybox-static) >"$work/log" 2>&1; } ||
            { cat "$work/log" >&2; fail "downloading busybox-static failed"; }
        dpkg-deb -x "$work"/package/busybox-static_*.deb "$work/package/root"
        program=$work/package/root/bin/busybox
    fi
    skeleton "$root"
    cp "$program" "$root/bin/busybox"
    chmod 755 "$root/bin/busybox"
    "$root/bin/busybox" --list-full | while read -r applet; do
        [ "$applet" = bin/busybox ] || [ "$applet" = busybox ] || [ -e "$root/$applet" ] || {
            mkdir -p "$root/$(dirname "$applet")"
            ln -s /bin/busybox "$root/$applet"
        }
    done
    rm -rf "$work/package" "$work/log"
}

# Where packages come from: what the user says, else what this system's apt uses, else (nothing) the tool's own default.
mirror() {
    if [ -n "${LODGE_DEBIAN_MIRROR:-}" ]; then
        printf '%s\n' "$LODGE_DEBIAN_MIRROR"
    else
        # shellcheck disable=SC2016 # apt's own variables
        apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
            awk '$2 !~ /-/ { print $1; exit }'
    fi
}

# No recommended packages: node comes without npm.
torture_packages=stress-ng,gcc,libc6-dev,make,lua5.4,luajit,nodejs,python3,libpython3.11-testsuite

# As root the files belong to their owners; otherwise mmdebstrap maps them through a user namespace.
build_debian() {
    root=$1
    include=${2:-}
    say "$name: installing Debian 12 (a minute or two)"
    mirror=$(mirror)
    if command -v mmdebstrap >/dev/null; then
        # shellcheck disable=SC2086 # no mirror is no argument
        mmdebstrap --quiet --variant=minbase --architectures=amd64 ${include:+"--include=$include"} \
            --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            bookworm "$root" $mirror >"$work/log" 2>&1 ||
            { tail -n 20 "$work/log" >&2; fail "mmdebstrap failed"; }
    elif command -v debootstrap >/dev/null; then
        [ "$(id -u)" = 0 ] || fail "debootstrap needs root; as another user install mmdebstrap"
        # shellcheck disable=SC2086
        debootstrap --variant=minbase --arch=amd64 ${include:+"--include=$include"} bookworm "$root" $mirror >"$work/log" 2>&1 ||
            { tail -n 20 "$work/log" >&2; fail "debootstrap failed"; }
    else
        fail "the $name image needs mmdebstrap or debootstrap: apt-get install mmdebstrap"
    fi
    rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_* \
        "$root"/var/log/*.log "$root"/var/log/apt "$work/log"
    rm -f "$root/etc/resolv.conf" "$root/etc/hostname" "$root/etc/machine-id"
    : >"$root/etc/machine-id"
    printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >"$root/etc/hosts"
}

# Unpacked, not installed: no scripts of the packages run. What no row of the benchmark opens goes away: it is booted as an
# initial RAM disk.
build_bench() {
    root=$1
    command -v mmdebstrap >/dev/null || fail "the bench image needs mmdebstrap: apt-get install mmdebstrap"
    say "bench: unpacking Lua, SQLite, Python, gcc and others (half a minute)"
    mirror=$(mirror)
    # shellcheck disable=SC2086 # no mirror is no argument
    mmdebstrap --quiet --variant=extract --architectures=amd64 --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include=lua5.4,sqlite3,python3-minimal,gcc-12,libc6-dev,gzip,zstd,dash,coreutils,sed,grep,mawk \
        bookworm "$root" $mirror >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; fail "mmdebstrap failed"; }
    rm -rf "$root"/var/cache "$root"/var/lib/apt "$root"/var/lib/dpkg "$root"/usr/share/info "$root"/usr/share/gcc \
        "$root"/usr/lib/x86_64-linux-gnu/gconv "$root"/usr/lib/x86_64-linux-gnu/gprofng "$root"/usr/include/linux/netfilter* \
        "$root"/usr/lib/x86_64-linux-gnu/lib?san.so* "$root"/usr/lib/gcc/x86_64-linux-gnu/12/lib?san* \
        "$root"/usr/lib/gcc/x86_64-linux-gnu/12/lto1 "$root"/usr/lib/gcc/x86_64-linux-gnu/12/plugin "$root"/usr/bin/*lto-dump* \
        "$root"/usr/lib/x86_64-linux-gnu/lib*.a "$root"/usr/bin/*gprof* "$root"/usr/bin/*-dwp "${root:?}"/dev/* "$work/log"
    mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/bench"
    ln -sf dash "$root/bin/sh"
}

build() {
    name=$1
    final=$store/images/$name
    if [ -e "$final/config.json" ] && [ "$refresh" = no ]; then
        say "$name: is there"
        return
    fi
    work=$store/images/.new.$$
    rm -rf --one-file-system "$work"
    mkdir "$work"
    mkdir -m 755 "$work/rootfs"
    case $name in
    busybox) build_busybox "$work/rootfs"; cmd='["/bin/sh"]' ;;
    debian) build_debian "$work/rootfs"; cmd='["/bin/bash"]' ;;
    bench) build_bench "$work/rootfs"; cmd='["/bin/sh"]' ;;
    torture) build_debian "$work/rootfs" "$torture_packages"; cmd='["/bin/bash"]' ;;
    esac
    say "$name: computing the digest"
    digest=$(tar -C "$work/rootfs" --sort=name --numeric-owner --xattrs --format=pax \
        --pax-option=delete=atime,delete=ctime -cf - . | sha256sum | cut -d' ' -f1)
    cat >"$work/config.json" <<JSON
{
  "name": "$name",
  "digest": "sha256:$digest",
  "cmd": $cmd,
  "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
  "workdir": "/",
  "user": "",
  "created": "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
}
JSON
    sync -f "$work/config.json"
    store_put "$final"
    say "$name: is ready in $final ($(du -sh "$final" | cut -f1))"
}

for name in $names; do
    build "$name"
done
