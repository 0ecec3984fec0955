# SPDX-License-Identifier: Apache-2.0
"""--boot disk and --boot cdrom: partition tables, file systems and boot loaders' menus; a Debian that keeps what it writes."""
import json
import os
import shutil
import struct
import subprocess
import sys
import time

import pytest

from conftest import ROOT, need_command
from vmm import Vmm, assemble

GRUB = """
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="1>0"
fi
function savedefault {
  true
}
menuentry 'First' $menuentry_id_option 'first' { linux /boot/nowhere mode=loop
}
submenu "Advanced options" $menuentry_id_option 'advanced' {
    menuentry 'The kernel, "older"' --class gnu $menuentry_id_option 'older' {
        set root='hd0,gpt1'
        linux   (hd0,gpt1)/boot/hello from=grub $undefined "two words" mode=exit
        initrd  /boot/one /boot/two
    }
}
"""
ENTRY = "title Kernel {0}\nversion {0}\nlinux /boot/{1}\noptions from=entries version={0}\n"
ISOLINUX = "DEFAULT vesamenu.c32\nINCLUDE more.cfg\nLABEL other\n  KERNEL /nowhere\n"
MORE = "LABEL live\n  MENU DEFAULT\n  KERNEL hello\n  APPEND initrd=one,/two from=isolinux mode=exit --- quiet\n"


@pytest.fixture(scope="module")
def hello(tmp_path_factory):
    return assemble("hello.S", tmp_path_factory.mktemp("hello") / "hello").read_bytes()


def tree(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def ext(path, files, size="8M", kind="ext4"):
    need_command("mke2fs")
    root = tree(path.parent / (path.name + ".root"), files)
    subprocess.run(["mke2fs", "-q", "-F", "-t", kind, "-d", root, path, size], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(root)
    return path


def mbr(path, parts, logical=()):
    """An MBR disk: parts are primary partitions; logical ones lie in an extended partition behind them."""
    at, sectors, table = 2048, [], bytearray(64)
    body = []
    for i, part in enumerate(parts):
        count = os.path.getsize(part) // 512
        struct.pack_into("<B3sB3sII", table, 16 * i, 0, b"\0\0\0", 0x83, b"\0\0\0", at, count)
        body.append((at, part.read_bytes()))
        at += count
    if logical:
        base = at
        for i, part in enumerate(logical):
            count = os.path.getsize(part) // 512
            record = bytearray(512)
            struct.pack_into("<B3sB3sII", record, 446, 0, b"\0\0\0", 0x83, b"\0\0\0", 64, count)
            if i + 1 < len(logical):
                struct.pack_into("<B3sB3sII", record, 462, 0, b"\0\0\0", 0x05, b"\0\0\0", at + 64 + count - base, 64 + count)
            record[510:] = b"\x55\xaa"
            sectors.append((at, bytes(record)))
            body.append((at + 64, part.read_bytes()))
            at += 64 + count
        struct.pack_into("<B3sB3sII", table, 16 * len(parts), 0, b"\0\0\0", 0x05, b"\0\0\0", base, at - base)
    with open(path, "wb") as disk:
        disk.truncate((at + 64) * 512)
        disk.seek(446)
        disk.write(bytes(table) + b"\x55\xaa")
        for where, data in body + sectors:
            disk.seek(where * 512)
            disk.write(data)
    return path


def gpt(path, parts):
    subprocess.run([sys.executable, ROOT / "tools/gpt_disk.py", path, *parts], check=True)
    return path


def look(program, image, *words, device="vda", limit=60):
    """What lodge-bootdisk says, and the two files that it hands over."""
    kernel, initrd = image.parent / "kernel.out", image.parent / "initrd.out"
    with open(kernel, "wb") as k, open(initrd, "wb") as i:
        done = subprocess.run([program("lodge-bootdisk"), device, f"raw:{image}", *words, "--kernel", str(k.fileno()), "--initrd",
                               str(i.fileno())], pass_fds=(k.fileno(), i.fileno()), stdout=subprocess.PIPE, timeout=limit)
    assert done.returncode in (0, 1), done
    return json.loads(done.stdout), kernel.read_bytes(), initrd.read_bytes()


def test_grub_in_every_table(program, tmp_path, hello):
    files = {"boot/grub/grub.cfg": GRUB, "boot/hello": hello, "boot/one": "11111", "boot/two": "22"}
    data, boot = ext(tmp_path / "data", {"home/file": "x"}), ext(tmp_path / "boot", files)
    for image, number in [(boot, 0), (gpt(tmp_path / "gpt", [boot]), 1), (gpt(tmp_path / "gpt2", [data, boot]), 2),
                          (mbr(tmp_path / "mbr", [data, boot]), 2), (mbr(tmp_path / "logical", [data], [data, boot]), 6)]:
        found, kernel, initrd = look(program, image)
        assert found["partition"] == number and kernel == hello and initrd == b"11111\0\0\0" + b"22"
        assert found["cmdline"] == 'from=grub "two words" mode=exit' and found["title"] == 'The kernel, "older"'
    for kind in ("ext2", "ext3"):
        assert look(program, ext(tmp_path / kind, files, kind=kind))[1] == hello


def test_loader_entries_and_bare_kernels(program, tmp_path, hello):
    entries = {f"loader/entries/{name}.conf": ENTRY.format(name, "hello") for name in ("5.9", "5.10", "0-rescue")}
    found = look(program, ext(tmp_path / "bls", {**entries, "boot/hello": hello}))[0]
    assert found["cmdline"] == "from=entries version=5.10" and found["from"] == "/loader/entries"
    bls = {"boot/grub2/grub.cfg": "insmod blscfg\nblscfg\n", "boot/grub2/grubenv": "# GRUB\nkernelopts=root=UUID=1 ro\n",
           "boot/loader/entries/a.conf": "title A\nlinux /boot/hello\noptions $kernelopts quiet\n", "boot/hello": hello}
    assert look(program, ext(tmp_path / "kernelopts", bls))[0]["cmdline"] == "root=UUID=1 ro quiet"
    bare = {"boot/vmlinuz-5.9": b"old", "boot/vmlinuz-5.10": hello, "boot/initrd.img-5.10": b"rd"}
    found, kernel, initrd = look(program, gpt(tmp_path / "bare", [ext(tmp_path / "part", bare)]), device="vdb")
    assert found["cmdline"] == "root=/dev/vdb1 ro" and kernel == hello and initrd == b"rd"


@pytest.mark.parametrize("rock_ridge", [True, False])
def test_a_cd(program, tmp_path, hello, rock_ridge):
    xorriso = need_command("xorriso")
    root = tree(tmp_path / "cd", {"isolinux/isolinux.cfg": ISOLINUX, "isolinux/more.cfg": MORE, "isolinux/hello": hello, "isolinux/one": "1",
                                  "two": "2", "big": bytes(3 << 20)})
    image = tmp_path / "cd.iso"
    subprocess.run([xorriso, "-as", "mkisofs", "-quiet", *(["-R"] if rock_ridge else []), "-o", image, root], check=True,
                   stderr=subprocess.DEVNULL)
    found, kernel, initrd = look(program, image)
    assert found["cmdline"] == "from=isolinux mode=exit --- quiet" and kernel == hello and initrd == b"1\0\0\0" + b"2"
    with Vmm(program("lodge-vmm"), "--engine", "soft", "--disk", f"{image},cdrom", "--boot", "disk,cdrom", "--exit-port") as vm:
        assert vm.wait() == 11
        assert "boots '/isolinux/hello'" in vm.output


def test_the_order_and_what_was_looked_for(program, tmp_path, hello):
    bootable = ext(tmp_path / "bootable", {"boot/vmlinuz-1": hello})
    empty = gpt(tmp_path / "empty", [ext(tmp_path / "part", {"home/file": "x"})])
    (tmp_path / "noise").write_bytes(os.urandom(1 << 20))
    vmm = program("lodge-vmm")

    def run(*arguments):
        return subprocess.run([vmm, "--engine", "soft", "--exit-port", *map(str, arguments)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)

    done = run("--disk", empty, "--disk", bootable, "--boot", "disk", "--cmdline", "mode=exit")
    assert done.returncode == 11 and b"bootable" in done.stderr, done.stderr
    done = run("--disk", empty, "--disk", tmp_path / "noise", "--boot", "cdrom,disk")
    for words in ("nothing to boot", "the VM has no CD", "partition 1: ext4", "whole disk: no ext4 or ISO 9660", "grub.cfg",
                  "/boot/vmlinuz-*"):
        assert words in done.stderr.decode(), done.stderr
    kernel = tmp_path / "kernel"
    kernel.write_bytes(hello)
    assert run("--disk", empty, "--kernel", kernel, "--boot", "disk,kernel", "--cmdline", "mode=exit").returncode == 11
    assert b"--boot disk" in run("--disk", bootable).stderr
    assert b"each once" in run("--disk", bootable, "--boot", "disk,floppy").stderr
    missing = ext(tmp_path / "missing", {"boot/grub/grub.cfg": "menuentry a {\nlinux /gone\n}\n"})
    assert "'/gone', which /boot/grub/grub.cfg names" in run("--disk", missing, "--boot", "disk").stderr.decode()


def test_qcow2_with_a_file_below(program, tmp_path, hello):
    qemu = need_command("qemu-img")
    below = ext(tmp_path / "below", {"boot/vmlinuz-1": hello})
    subprocess.run([qemu, "create", "-q", "-f", "qcow2", "-b", below, "-F", "raw", tmp_path / "top"], check=True)
    with Vmm(program("lodge-vmm"), "--engine", "soft", "--disk", f"{tmp_path}/top,format=qcow2,backing=raw:{below}", "--boot", "disk",
             "--exit-port", "--cmdline", "mode=exit") as vm:
        assert vm.wait() == 11


def test_links_stay_on_the_disk_and_loops_end(program, tmp_path):
    root = tree(tmp_path / "r", {"boot/grub/x": "x"})
    (root / "boot/grub/grub.cfg").symlink_to("/etc/passwd")
    (root / "vmlinuz").symlink_to("vmlinuz")
    (root / "initrd.img").symlink_to("../../../../../etc/passwd")
    subprocess.run([need_command("mke2fs"), "-q", "-F", "-t", "ext4", "-d", root, tmp_path / "disk", "8M"], check=True,
                   stdout=subprocess.DEVNULL)
    found = look(program, tmp_path / "disk")[0]
    assert "no kernel on it" in found["error"]


def test_damaged_disks_give_an_answer(program, tmp_path, hello):
    """Bytes turned at random in what is read: an answer or an error, never a crash, never for ever."""
    import random
    image = gpt(tmp_path / "disk", [ext(tmp_path / "part", {"boot/grub/grub.cfg": GRUB, "boot/hello": hello, "boot/one": "1",
                                                             "boot/two": "2"}, size="2M")])
    whole = image.read_bytes()
    random.seed(3)
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(200):
            data[random.choice((random.randrange(1 << 20, len(data)), random.randrange(0, 4096), (1 << 20) + random.randrange(0, 8192)))] = \
                random.randrange(256)
        image.write_bytes(data)
        assert look(program, image)[0]


@pytest.mark.usefixtures("plain_build")
def test_debian_keeps_what_it_writes(program, guest, tmp_path):
    master = guest / "vdisks" / "debian-boot.raw"
    if not master.exists():
        pytest.skip("needs the disk debian-boot: tools/make_disk.sh")
    disk = tmp_path / "debian.raw"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", master, disk], check=True)
    limit = 240
    mark = f"kept-{time.monotonic_ns()}"
    for script, seen in ((f"echo {mark} >/root/mark; findmnt -n -o SOURCE /; sync; poweroff -f", "\n/dev/vda1"),
                         ("cat /root/mark; sync; poweroff -f", f"\n{mark}")):
        with Vmm(program("lodge-vmm"), "--engine", "soft", "--disk", disk, "--boot", "disk", "--memory", "512M", "--on-reset", "exit") as vm:
            vm.expect("debian-boot login: ", limit)
            vm.send("root\n")
            vm.expect("Password: ", limit)
            vm.send("lodge\n")
            vm.expect("root@debian-boot:~#", limit)
            vm.send(script + "\n")
            assert vm.wait(limit) == 0
            assert seen in vm.output.replace("\r", "").replace("\x1b[?2004l", ""), vm.output[-2000:]
