# SPDX-License-Identifier: Apache-2.0
"""Programs full of floating point print the same inside a guest as on the host."""
import platform
import subprocess

import pytest

from conftest import need_command
from vmm import HERE, Vmm, busybox_initrd, kernel

PROGRAMS = {
    "baseline": ("arithmetic.c", ["-O3", "-static"], ["-lm"]),
    "avx2": ("arithmetic.c", ["-O3", "-static", "-march=haswell"], ["-lm"]),
    "x87": ("arithmetic.c", ["-O2", "-static", "-mfpmath=387"], ["-lm"]),
    "32bit": ("arithmetic32.c", ["-O2", "-m32", "-static", "-nostdlib", "-msse2", "-ffreestanding", "-fno-pic", "-no-pie",
                                 "-fno-stack-protector", "-Wl,--build-id=none"], []),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """name -> (path, what it prints on the host)"""
    compiler = need_command("gcc")
    directory = tmp_path_factory.mktemp("arithmetic")
    built = {}
    for name, (source, flags, libraries) in PROGRAMS.items():
        if name == "avx2" and not {"avx2", "fma", "bmi2"} <= set(open("/proc/cpuinfo").read().split()):
            continue
        path = directory / name
        subprocess.run([compiler, *flags, "-o", path, HERE / "guests" / source, *libraries], check=True)
        try:
            built[name] = path, subprocess.run([path], check=True, capture_output=True, text=True).stdout
        except OSError:
            continue  # a host without 32-bit programs
    return built


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 host")
@pytest.mark.parametrize("engine", ["soft", "soft,tier=interp"])
def test_arithmetic_agrees_with_the_host(program, guest, programs, tmp_path, engine):
    script = "".join(f"chmod +x /{name}; echo start {name}; /{name}; echo end {name}\n" for name in programs) + "poweroff -f\n"
    initrd = busybox_initrd(tmp_path / "initrd", script, {name: path.read_bytes() for name, (path, _) in programs.items()})
    with Vmm(program("lodge-vmm"), "--engine", engine, "--kernel", kernel(guest, "cloud"), "--initrd", initrd, "--memory", "512M",
             "--quiet", "--cmdline", "console=ttyS0 quiet") as vmm:
        assert vmm.wait(120) == 0
    lines = vmm.output.replace("\r", "").split("\n")
    assert len(programs) >= 2
    for name, (_, expected) in programs.items():
        printed = lines[lines.index(f"start {name}") + 1:lines.index(f"end {name}")]
        assert printed == expected.split("\n")[:-1], name
        assert printed[-1] == "arithmetic done"
