#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a disk that boots by itself: Debian 12 with its own kernel package on ext4 in a GPT, with a grub.cfg. Nothing of it is
# installed or run on the host but the packages' own scripts, by mmdebstrap.
#
#   make_disk.sh [--store DIR] [--refresh] debian
#
# Result: DIR/vdisks/debian-boot.raw; root's password is "lodge". Boot it: lodge-vmm --disk FILE --boot disk
set -eu

# shellcheck source=tools/store.sh
. "$(dirname "$0")/store.sh"

store_options disk "debian" "debian" "$@"
for tool in mmdebstrap mke2fs python3; do
    command -v "$tool" >/dev/null || fail "$tool is needed"
done
[ "$(id -u)" = 0 ] || fail "root is needed: the files belong to their owners"
store_open "$store" vdisks

final=$store/vdisks/debian-boot.raw
if [ -e "$final" ] && [ "$refresh" = no ]; then
    say "debian-boot: is there"
    exit 0
fi
work=$store/vdisks/.new.$$
mkdir "$work"
root=$work/root
# shellcheck disable=SC2016 # apt's own variables
mirror=${LODGE_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
    awk '$2 !~ /-/ { print $1; exit }')}
say "debian-boot: installing Debian 12 and its kernel (a minute or two)"
# shellcheck disable=SC2086 # no mirror is no argument
mmdebstrap --quiet --variant=minbase --architectures=amd64 --include=linux-image-cloud-amd64,systemd-sysv,udev,login,passwd \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$root" $mirror >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; fail "mmdebstrap failed"; }
rm -rf "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_*
uuid=5b1f3c52-7a0e-4c57-9d5e-6c6f64676531
release=$(basename "$(echo "$root"/boot/vmlinuz-*)" | sed 's/^vmlinuz-//')
echo 'root:lodge' | chroot "$root" chpasswd
echo debian-boot >"$root/etc/hostname"
echo "UUID=$uuid / ext4 defaults 0 1" >"$root/etc/fstab"
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<CONFIG
set default="0"
menuentry 'Debian GNU/Linux' --class debian \$menuentry_id_option 'gnulinux-simple-$uuid' {
	search --no-floppy --fs-uuid --set=root $uuid
	linux	/boot/vmlinuz-$release root=UUID=$uuid ro quiet
	initrd	/boot/initrd.img-$release
}
CONFIG
say "debian-boot: making the disk"
mke2fs -q -t ext4 -b 4096 -U "$uuid" -d "$root" "$work/part" 900M
python3 "$(dirname "$0")/gpt_disk.py" "$work/disk" "$work/part"
sync -f "$work/disk"
mv "$work/disk" "$final"
say "debian-boot: is ready: $final ($(du -sh "$final" | cut -f1))"
