# SPDX-License-Identifier: Apache-2.0
"""A volume with a size where the file system has project quotas. Few hosts' kernels do, so the host is a virtual machine here: the kernel of the disk
debian-boot with its quota modules, this host's own files read-only, and an ext4 or xfs with prjquota for the volumes."""
import json
import shutil
import subprocess

import pytest

from conftest import need_command, need_root, skip_when_sanitized
from lodge_run import Lodge, need_image

MODULES = ("fs/quota/quota_tree", "fs/quota/quota_v2", "drivers/block/loop", "lib/libcrc32c", "fs/xfs/xfs")
MAKE = {"ext4": "/sbin/mke2fs -q -t ext4 -O project,quota -E quotatype=prjquota", "xfs": "/sbin/mkfs.xfs -q"}

OUTER = """set -e
for module in @MODULES; do insmod /host@HOME/kernels/quota/lib/modules/@RELEASE/kernel/$module.ko; done
mount -t tmpfs run /host/run
for place in dev proc sys; do mount --rbind /$place /host/$place; done
truncate -s 320M /host/run/disk
chroot /host @MAKE /run/disk
mount -t @TYPE -o loop,prjquota /host/run/disk /host/mnt
chroot /host /bin/sh @HOME/enforced
umount /host/mnt
mount -t @TYPE -o loop /host/run/disk /host/mnt
chroot /host /bin/sh @HOME/loose
"""

INNER = """export LODGE_VOLUMES=/mnt/volumes LODGE_HOME=@GUEST LODGE_RUNTIME=/run/lodge PATH=/usr/sbin:/usr/bin:/sbin:/bin
say() { echo "== $1"; shift; "$@" 2>&1; echo "status $?"; }
"""

ENFORCED = """@LODGE volume create --size 8M small; @LODGE volume create --size 4M other; @LODGE volume create plain
say full @LODGE run -v small:/v -v other:/o busybox sh -c 'dd if=/dev/zero of=/v/big bs=1M count=20; mv /v/big /o/big && echo MOVED; df -k /v | tail -n 1'
say used @LODGE volume inspect small
say plain @LODGE run -v plain:/v busybox dd if=/dev/zero of=/v/big bs=1M count=20
say again @LODGE run -v small:/v busybox sh -c 'rm /v/big; echo again >/v/file; cat /v/file'
@LODGE volume rm small; @LODGE volume create --size 16M small
say bigger @LODGE run -v small:/v busybox dd if=/dev/zero of=/v/big bs=1M count=10
"""

LOOSE = """say loose @LODGE run -v small:/v busybox true
@LODGE volume create --size 4M image
say image @LODGE volume inspect image
"""


@pytest.fixture(scope="module")
def debian_kernel(guest, tmp_path_factory):
    """LODGE_HOME with the disk's kernel and all its modules, and with our images."""
    disk = guest / "vdisks" / "debian-boot.raw"
    if not disk.exists() or not shutil.which("debugfs"):
        pytest.skip("needs the disk debian-boot (tools/make_disk.sh) and debugfs")

    def debugfs(request):
        return subprocess.run(["debugfs", "-R", request, f"{disk}?offset=1048576"], capture_output=True, text=True, timeout=120, check=True).stdout

    home = tmp_path_factory.mktemp("quota") / "home"
    kernel = home / "kernels" / "quota"
    (kernel / "lib" / "modules").mkdir(parents=True)
    (home / "images").symlink_to(guest / "images")
    release = next(line.split()[-1] for line in debugfs("ls -l /lib/modules").splitlines() if "amd64" in line)
    debugfs(f"rdump /lib/modules/{release} {kernel}/lib/modules")
    debugfs(f"dump /boot/vmlinuz-{release} {kernel}/vmlinuz")
    (kernel / "release").write_text(release + "\n")
    if not (kernel / "lib" / "modules" / release / "kernel" / "fs" / "quota" / "quota_v2.ko").exists():
        pytest.skip("the kernel of the disk debian-boot has no quotas")
    return home, release


@pytest.mark.parametrize("kind", MAKE)
def test_a_project_quota_holds(program, guest, debian_kernel, kind):
    need_root()
    need_command(MAKE[kind].split()[0])
    skip_when_sanitized()
    need_image(guest, "busybox")
    program("lodge-vmm")
    home, release = debian_kernel
    lodge = Lodge(program("lodge"), home)
    words = {"@MODULES": " ".join(MODULES), "@RELEASE": release, "@HOME": str(home), "@GUEST": str(guest.resolve()), "@LODGE": str(lodge.program), "@MAKE": MAKE[kind],
             "@TYPE": kind}
    for name, text in (("outer", OUTER), ("enforced", INNER + ENFORCED), ("loose", INNER + LOOSE)):
        for word, value in words.items():
            text = text.replace(word, value)
        (home / name).write_text(text)
    done = lodge("run", "--vm", "-q", "--kernel", "quota", "-m", "512M", "-v", "/:/host:ro", "busybox", "sh", f"/host{home}/outer")
    said = {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in done.stdout.decode().split("== ")[1:]}
    assert done.returncode == 0 and len(said) == 7, done
    # Full at 8 MiB, as df tells too; and not by moving what is there into another volume's quota.
    error = "No space left" if kind == "xfs" else "quota exceeded"
    assert error in said["full"] and "MOVED" not in said["full"], said
    assert 8000 <= int(said["full"].splitlines()[-2].split()[1]) <= 8192, said
    shown = json.loads(said["used"].rsplit("status", 1)[0])[0]
    assert shown["limit"] == "quota" and shown["size_bytes"] == 8 << 20 and 7 << 20 < shown["used_bytes"] <= 8 << 20
    assert "status 0" in said["plain"] and "again\nstatus 0" in said["again"], said
    # The old limit went with the old volume.
    assert "status 0" in said["bigger"], said
    # A file system that counts but does not enforce: what relies on it is refused, what is new is an image.
    assert "status 125" in said["loose"] and "prjquota" in said["loose"], said
    assert json.loads(said["image"].rsplit("status", 1)[0])[0]["limit"] == "image"
    lodge.assert_clean(30)
