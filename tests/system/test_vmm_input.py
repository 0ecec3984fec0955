# SPDX-License-Identifier: Apache-2.0
"""Bad input to lodge-vmm: one line that names what is wrong, exit status 2, nothing left behind."""
import os
import subprocess
from pathlib import Path

import pytest

from patience import PATIENCE_S
from vmm import assemble


@pytest.fixture(scope="module")
def hello(tmp_path_factory) -> Path:
    return assemble("hello.S", tmp_path_factory.mktemp("guest") / "hello")


@pytest.fixture
def refuse(program, tmp_path):
    """refuse(text, arguments...): lodge-vmm ends with status 2 and one line on standard error that has the text in it."""

    def run(text: str, *arguments):
        before = sorted(tmp_path.rglob("*"))
        done = subprocess.run([program("lodge-vmm"), "--engine", "soft", "--quiet", *map(str, arguments)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 2, done
        assert text in done.stderr, done.stderr
        assert done.stderr.startswith("lodge-vmm: error: ") and done.stderr.count("\n") == 1, done.stderr
        assert done.stdout == ""
        assert sorted(tmp_path.rglob("*")) == before

    return run


def test_options(refuse, hello):
    refuse("no kernel is named")
    refuse("unknown option '--fast'", "--fast")
    refuse("'--kernel' needs a value", "--kernel")
    refuse("unexpected argument", "--kernel", hello, "more")
    refuse("'-5' is not a number", "--kernel", hello, "--cpus", "-5")
    refuse("65 vCPUs: 1 to 64", "--kernel", hello, "--cpus", "65")


def test_kernel_files(refuse, tmp_path, hello):
    refuse("/nonexistent/vmlinuz': No such file", "--kernel", "/nonexistent/vmlinuz")
    refuse("Is a directory", "--kernel", tmp_path)
    for name, contents in {"empty": b"", "text": b"this is not a kernel\n" * 100, "zeros": bytes(65536),
                           "cut": hello.read_bytes()[:90]}.items():
        path = tmp_path / name
        path.write_bytes(contents)
        refuse(str(path), "--kernel", path)


def test_truncated_distribution_kernel(refuse, guest, tmp_path):
    kernel = guest / "kernels" / "cloud" / "vmlinuz"
    if not kernel.exists():
        pytest.skip("needs the cloud kernel")
    data = kernel.read_bytes()
    path = tmp_path / "vmlinuz"
    for length in (100, 600, 4096, 20000, len(data) // 2):
        path.write_bytes(data[:length])
        refuse(str(path), "--kernel", path)
    path.write_bytes(data[:len(data) // 2] + os.urandom(65536) + data[len(data) // 2 + 65536:])
    refuse(str(path), "--kernel", path)


def test_initrd(refuse, hello):
    refuse("initrd '/nonexistent/initrd'", "--kernel", hello, "--initrd", "/nonexistent/initrd")


def test_memory(refuse, hello):
    refuse("too small", "--kernel", hello, "--memory", "64K")
    refuse("not a multiple of 4096", "--kernel", hello, "--memory", str((32 << 20) + 1))
    refuse("more than this host has", "--kernel", hello, "--memory", "64T")
    refuse("is not a size", "--kernel", hello, "--memory", "much")


def test_kernel_larger_than_memory(refuse, guest):
    kernel = guest / "kernels" / "cloud" / "vmlinuz"
    if not kernel.exists():
        pytest.skip("needs the cloud kernel")
    refuse(str(kernel), "--kernel", kernel, "--memory", "8M")


def test_disks(refuse, hello, tmp_path):
    refuse("/nonexistent/disk", "--kernel", hello, "--disk", "/nonexistent/disk")
    refuse(str(tmp_path), "--kernel", hello, "--disk", tmp_path)
    refuse("none of ro, rw", "--kernel", hello, "--disk", "/dev/null,x")


def test_sockets(refuse, hello, tmp_path):
    refuse("No such file", "--kernel", hello, "--control", tmp_path / "no" / "control")
    refuse("is longer than", "--kernel", hello, "--control", "/tmp/" + "x" * 200)
    plain = tmp_path / "plain"
    plain.write_text("keep me")
    refuse("is not a socket", "--kernel", hello, "--control", plain)
    assert plain.read_text() == "keep me"


def test_engine(refuse, hello):
    refuse("tier=warp", "--kernel", hello, "--engine", "soft,tier=warp")


@pytest.mark.parametrize("text, message", [
    ("", "vm.json"), ("{", "vm.json:1"), ("[]", "an object is needed"), ('{"kernal": "x"}', "kernal"),
    ('{"kernel": 5}', "kernel: an integer where a string is needed"), ('{"kernel": "/k", "disks": [{"pth": "x"}]}', "disks[0].pth"),
    ('{"memory": "-1"}', "memory"), ('{"cpus": 1.5}', "cpus"), ('{"kernel": "a", "kernel": "b"}', "vm.json:1"),
])
def test_config(refuse, tmp_path, text, message):
    path = tmp_path / "vm.json"
    path.write_text(text)
    refuse(message, "--config", path)


def test_missing_config(refuse):
    refuse("/nonexistent/vm.json", "--config", "/nonexistent/vm.json")
