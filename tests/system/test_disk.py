# SPDX-License-Identifier: Apache-2.0
"""lodge disk: the flow of making and changing disks as a user sees it; qemu-img agrees. What the library does is tested beside it."""
import json
import os
import subprocess

import pytest

from conftest import need_command, need_root
from lodge_run import Lodge


@pytest.fixture
def lodge(program, tmp_path):
    (tmp_path / "store").mkdir()
    return Lodge(program("lodge"), tmp_path / "store")


def disk(lodge, *args, status=0):
    done = lodge("disk", *args)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout.decode() if status in (0, 1) else done.stderr.decode()


def test_the_life_of_a_disk(lodge, tmp_path):
    qemu = need_command("qemu-img")
    path = disk(lodge, "create", "--format", "qcow2", "data", "64M").strip()
    assert path == str(tmp_path / "store/vdisks/data.qcow2")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 2M", path], check=True, stdout=subprocess.DEVNULL)
    disk(lodge, "snapshot", "create", "data", "before")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 8 2M 2M", path], check=True, stdout=subprocess.DEVNULL)
    disk(lodge, "resize", "data", "96M")
    assert "--shrink" in disk(lodge, "resize", "data", "64M", status=125)
    raw = disk(lodge, "convert", "data", "copy", "--to", "raw").strip()
    subprocess.run([qemu, "compare", "-f", "qcow2", "-F", "raw", path, raw], check=True, stdout=subprocess.DEVNULL)
    assert os.stat(raw).st_blocks * 512 < 8 << 20 and os.stat(raw).st_size == 96 << 20
    listed = {one["name"]: one for one in json.loads(disk(lodge, "ls", "--json"))}
    assert listed["data"]["snapshots"] == 1 and listed["copy"]["bytes"] == 96 << 20 and listed["copy"]["format"] == "raw"
    disk(lodge, "snapshot", "apply", "data", "before")
    info = json.loads(subprocess.run([qemu, "info", "--output=json", path], check=True, stdout=subprocess.PIPE).stdout)
    assert info["virtual-size"] == 64 << 20 and [one["name"] for one in info["snapshots"]] == ["before"]
    disk(lodge, "snapshot", "rm", "data", "before")
    assert json.loads(disk(lodge, "check", "--json", "data"))["errors"] == 0
    subprocess.run([qemu, "check", "-f", "qcow2", path], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "read -P 7 1M 2M", "-c", "read -P 0 3M 1M", path], check=True,
                   stdout=subprocess.DEVNULL)
    disk(lodge, "rm", "data", "copy")
    assert json.loads(disk(lodge, "ls", "--json")) == []


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_disk_in_use_is_still_known(lodge, format):
    """What QEMU's own tool holds for writing is listed with its size, and not touched."""
    path = disk(lodge, "create", "--format", format, "data", "64M").strip()
    with subprocess.Popen([need_command("qemu-io"), "-f", format, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
        held.stdin.write(b"write -P 7 0 1M\n")
        held.stdin.flush()
        assert b"wrote" in held.stdout.readline()
        listed = json.loads(disk(lodge, "ls", "--json"))[0]
        assert listed["bytes"] == 64 << 20 and listed["allocated_bytes"] >= 1 << 20 and listed["in_use"] and "error" not in listed
        row = disk(lodge, "ls").splitlines()[1]
        assert "64 MiB" in row and "(in use)" in row and path in row
        assert json.loads(disk(lodge, "inspect", "data"))["bytes"] == 64 << 20
        assert "in use by another process" in disk(lodge, "resize", "data", "96M", status=125)
        held.stdin.close()
    assert "in_use" not in json.loads(disk(lodge, "inspect", "data"))


@pytest.mark.parametrize("args, words", [
    (["create", "data"], "NAME SIZE"), (["creat", "a", "1G"], "did you mean 'create'"), (["create", "/nosuch/a", "1G"], "No such file"),
    (["create", "a*b", "1G"], "no disk's name"), (["create", "a", "1G", "--format", "vmdk"], "none of raw, qcow2"),
    (["create", "a", "100"], "whole sectors"), (["inspect", "nosuch"], "lodge disk ls"), (["snapshot", "create", "./x.raw", "s"], "no snapshots"),
    (["rm", "./x"], "by name"), (["create", "a", "1G", "--backing", "vmdk:x"], "raw:FILE"), (["ls", "--frob"], "unknown option")])
def test_wrong_usage_says_what_is_right(lodge, args, words):
    done = lodge("disk", *args)
    assert done.returncode in (2, 125) and words in done.stderr.decode(), done.stderr


def test_a_backing_file_is_named_never_followed(lodge, tmp_path):
    qemu = need_command("qemu-img")
    (tmp_path / "secret").write_bytes(b"s" * 65536)
    subprocess.run([qemu, "create", "-q", "-f", "qcow2", "-b", tmp_path / "secret", "-F", "raw", tmp_path / "evil.qcow2"], check=True)
    assert "backing file: name it" in disk(lodge, "convert", f"{tmp_path}/evil.qcow2", "out", status=125)
    assert json.loads(disk(lodge, "inspect", f"{tmp_path}/evil.qcow2"))["backing"] == str(tmp_path / "secret")
    out = disk(lodge, "convert", f"{tmp_path}/evil.qcow2", "out", "--backing", f"raw:{tmp_path}/secret").strip()
    assert open(out, "rb").read(4) == b"ssss"


def test_a_full_disk_leaves_the_old_and_no_half(lodge, program, tmp_path):
    need_root()
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=True)
    try:
        (tmp_path / "big.raw").write_bytes(os.urandom(4 << 20))
        (small / "out.raw").write_bytes(b"old")
        assert "No space left" in disk(lodge, "convert", f"{tmp_path}/big.raw", f"{small}/out.raw", "--force", status=125)
        assert "No space left" in disk(lodge, "convert", f"{tmp_path}/big.raw", f"{small}/out.qcow2", status=125)
        assert [path.name for path in small.iterdir()] == ["out.raw"] and (small / "out.raw").read_bytes() == b"old"
    finally:
        subprocess.run(["umount", "-l", small], check=True)
