# SPDX-License-Identifier: Apache-2.0
"""-v of a virtual machine: the same operations natively and through the share give the same tree."""
import hashlib
import os
import shutil
import signal
import stat
import subprocess

import pytest

from lodge_run import machines_of_test, read_until

# What both run, in a directory of their own; names with blanks, a deep tree, links, modes, times, holes.
SCRIPT = r"""
set -e
mkdir -p a/b/c 'with blank'
i=0; while [ $i -lt 120 ]; do echo "file $i" >a/b/f$i; i=$((i + 1)); done
ln -s ../b/f1 a/link; ln a/b/f2 'with blank/hard'; ln -s /etc/passwd outside
mv a/b/f3 a/moved; mv a/b a/renamed; rm a/renamed/f4; rmdir a/renamed/c
dd if=/dev/zero of=hole bs=1 count=1 seek=5000000 2>/dev/null
dd if=hole of=copy bs=64k 2>/dev/null; truncate -s 1234567 copy
cp -a a again; chmod 640 again/moved; chmod 2755 again; touch -d '2020-01-02 03:04:05' again/moved
echo one >append; echo two >>append; mkfifo pipe
touch listing; find . | sort >listing
seq 1 20000 | sort -r >sorted; sort -n sorted | md5sum >sum; rm sorted
tar c a | tar x -C 'with blank'
ls -R again >>listing
"""


def tree(root):
    """Everything that can be told of a tree, times of directories and sizes of theirs apart."""
    found = {}
    for at, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(at, name)
            st = os.lstat(path)
            entry = [stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid]
            if stat.S_ISLNK(st.st_mode):
                entry.append(os.readlink(path))
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as file:
                    entry += [st.st_size, st.st_nlink, hashlib.sha256(file.read()).hexdigest()]
            found[os.path.relpath(path, root)] = entry
    return found


lodge = pytest.fixture(machines_of_test())


def test_the_same_script_gives_the_same_tree(lodge, guest, tmp_path):
    native, shared = tmp_path / "native", tmp_path / "shared"
    native.mkdir()
    shared.mkdir()
    busybox = next(path for path in guest.glob("images/busybox/**/bin/busybox"))
    tools = tmp_path / "bin"
    tools.mkdir()
    shutil.copy(busybox, tools / "busybox")
    for name in subprocess.run([tools / "busybox", "--list"], stdout=subprocess.PIPE, check=True, text=True).stdout.split():
        if name != "busybox":
            (tools / name).symlink_to("busybox")
    subprocess.run([tools / "sh", "-c", "umask 022; " + SCRIPT], cwd=native, env={"PATH": str(tools)}, check=True)
    done = lodge.run("-q", "-v", f"{shared}:/mnt", "-w", "/mnt", "busybox", "sh", "-c", "umask 022; " + SCRIPT)
    assert done.returncode == 0, done.stderr.decode()
    assert tree(native) == tree(shared)
    assert len(tree(shared)) > 250
    assert (shared / "again/moved").stat().st_mtime == (native / "again/moved").stat().st_mtime


def test_files_owners_read_only_and_what_lies_outside(lodge, tmp_path):
    shared, secret = tmp_path / "shared dir", tmp_path / "secret"
    shared.mkdir()
    shared.chmod(0o777)
    secret.write_text("secret\n")
    (shared / "out").symlink_to(secret)
    (shared / "up").symlink_to("..")
    single = tmp_path / "single"
    single.write_text("one file\n")
    done = lodge.run("-q", "-v", f"{shared}:/data", "-v", f"{shared}:/a/b c/ro:ro", "-v", f"{single}:/etc/single:ro", "busybox", "sh", "-c", r"""
        cat /etc/single
        cat /data/out /data/up/secret /data/../secret 2>/dev/null && echo OUT
        touch /a/b\ c/ro/x /etc/single 2>/dev/null && echo WRITTEN
        mknod /data/null c 1 3 2>/dev/null && echo DEVICE
        touch /data/of-root; chown 12:34 /data/of-root
        su -s /bin/sh daemon -c 'touch /data/of-daemon; mkdir /data/dir-of-daemon' || adduser
        ls /a/b\ c/ro | sort | tr '\n' ' '""")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == "one file\ndir-of-daemon of-daemon of-root out up "
    assert ((shared / "of-root").stat().st_uid, (shared / "of-root").stat().st_gid) == (12, 34)
    assert (shared / "of-daemon").stat().st_uid == (shared / "dir-of-daemon").stat().st_uid == 1
    assert secret.read_text() == "secret\n" and single.read_text() == "one file\n"


def test_the_server_is_killed(lodge, tmp_path):
    """What the guest asks of it fails, at once and later; the VM goes on."""
    (tmp_path / "file").write_bytes(b"x" * (8 << 20))
    script = "echo ready; while cat /d/file >/dev/null 2>&1; do :; done; echo failed; ls /d 2>&1 | tail -1; stat /d/other; mount -o remount,rw /; sync; echo over"
    run = lodge.start("-q", "-v", f"{tmp_path}:/d", "busybox", "sh", "-c", script)
    read_until(run.stdout, b"ready\n")
    server = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_server(pid, run.pid)]
    assert len(server) == 1
    os.kill(server[0], signal.SIGKILL)
    out, _ = run.communicate(timeout=120)
    assert b"failed\n" in out and out.endswith(b"over\n") and run.returncode == 0


def is_server(pid, run):
    """A child of the monitor that this run started."""
    try:
        parent = parent_of(pid)
        return parent != run and parent_of(parent) == run and "lodge" in open(f"/proc/{pid}/comm").read()
    except OSError:
        return False


def parent_of(pid):
    return int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])


def test_a_volume_that_is_not_there(lodge):
    done = lodge.run("-v", "/no/such/place:/x", "busybox", "true")
    assert done.returncode == 125 and "/no/such/place" in done.stderr.decode()
