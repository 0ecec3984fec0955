#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches the distribution's kernels for guests and unpacks what a guest needs of them: nothing is
# installed on the host.
#
#   fetch_kernel.sh [--store DIR] [--refresh] cloud [generic rt]
#
# Result: DIR/kernels/NAME/{vmlinuz,release,package,lib/modules/RELEASE/...}, complete or absent: the
# directory is made beside its place and renamed when it is whole, so a killed run leaves nothing that
# could be taken for a kernel. A kernel that is there already costs one look; --refresh fetches again.
set -eu

# shellcheck source=tools/store.sh
. "$(dirname "$0")/store.sh"

store_options kernel "cloud generic rt" "cloud" "$@"
for tool in apt-get apt-cache dpkg-deb tar; do
    command -v "$tool" >/dev/null || fail "$tool is needed (Debian or a relative of it)"
done

store_open "$store" kernels

metapackage() {
    case $1 in
    cloud) echo linux-image-cloud-amd64 ;;
    generic) echo linux-image-amd64 ;;
    rt) echo linux-image-rt-amd64 ;;
    esac
}

# The package that the metapackage stands for: its first dependency that names a kernel image.
real_package() {
    apt-cache depends "$1" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

fetch() {
    name=$1
    final=$store/kernels/$name
    if [ -e "$final/vmlinuz" ] && [ "$refresh" = no ]; then
        say "$name: $(cat "$final/release") is there"
        return
    fi
    meta=$(metapackage "$name")
    package=$(real_package "$meta")
    if [ -z "$package" ]; then
        say "$name: updating the package lists"
        apt-get -qq update || fail "apt-get update failed: the package lists name no $meta"
        package=$(real_package "$meta")
    fi
    [ -n "$package" ] || fail "no package source offers $meta: add the distribution's main archive"
    release=${package#linux-image-}
    release=${release%-unsigned}
    work=$store/kernels/.new.$$
    rm -rf "$work"
    mkdir "$work"
    say "$name: downloading $package"
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package") >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        fail "downloading $package failed; is '$store' full, or the network away?"
    }
    say "$name: unpacking the kernel and the modules that a guest uses"
    mkdir "$work/root"
    m=./lib/modules/$release
    k=$m/kernel
    # Patterns that match nothing (built in, or absent in this flavour) are no failure.
    dpkg-deb --fsys-tarfile "$work/$package"_*.deb |
        tar -x -C "$work/root" --no-same-owner --wildcards \
            "./boot/vmlinuz-$release" "$m/modules.builtin" "$m/modules.order" \
            "$k/drivers/virtio/*" "$k/drivers/block/virtio_blk.*" "$k/drivers/char/virtio_console.*" \
            "$k/drivers/char/hw_random/*" "$k/net/vmw_vsock/*" "$k/fs/ext4/*" "$k/fs/jbd2/*" \
            "$k/fs/mbcache.*" "$k/fs/overlayfs/*" "$k/fs/erofs/*" "$k/fs/squashfs/*" "$k/fs/fuse/*" \
            "$k/lib/crc16.*" "$k/lib/libcrc32c.*" "$k/crypto/crc32c*" "$k/arch/x86/crypto/crc32c*" \
            "$k/drivers/net/virtio_net.*" "$k/drivers/net/net_failover.*" "$k/net/core/failover.*" \
            2>"$work/log" || true
    if [ ! -s "$work/root/boot/vmlinuz-$release" ] || [ ! -s "$work/root/$m/modules.builtin" ]; then
        cat "$work/log" >&2
        fail "$package could not be unpacked (is '$store' full?)"
    fi
    mv "$work/root/boot/vmlinuz-$release" "$work/vmlinuz"
    mv "$work/root/lib" "$work/lib"
    find "$work/lib" -name '*.ko.xz' -exec xz -d {} + -o -name '*.ko.zst' -exec zstd -q -d --rm {} +
    basename "$(echo "$work/$package"_*.deb)" .deb >"$work/package"
    rm -rf "$work/root" "$work/log" "$work/$package"_*.deb
    echo "$release" >"$work/release"
    chmod -R go+rX "$work"
    store_put "$final"
    say "$name: $release is ready in $final ($(du -sh "$final" | cut -f1))"
}

for name in $names; do
    fetch "$name"
done
