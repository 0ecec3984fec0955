# SPDX-License-Identifier: Apache-2.0
"""The system architecture of the software CPU, seen from inside: guests/arch.S provokes exceptions, privilege changes, task switches,
virtual-8086 mode, paging faults and mode switches in a fixed order. What must come is written here from the SDM; where QEMU's own
software CPU implements the check too, both must print the same lines."""
import subprocess

import pytest
from conftest import ROOT, need_command

DE, DB, BP, OF, BR, UD, DF, NP, SS, GP, PF = 0, 1, 3, 4, 5, 6, 8, 11, 12, 13, 14
OK = None

# check: (vector, error code), or OK where no exception ends it
EXPECTED = {
    0x01: (UD, 0), 0x02: (BP, 0), 0x03: (0x30, 0), 0x04: (OF, 0), 0x05: (DE, 0), 0x06: (BR, 0),
    0x07: (GP, 0xFFF8), 0x08: (NP, 0x48), 0x09: (SS, 0x48), 0x0A: (GP, 0), 0x0B: (GP, 0), 0x0C: (GP, 0x10),
    0x0D: (GP, 0x48), 0x0E: (GP, 0x18), 0x0F: (GP, 0x10), 0x10: (GP, 0x30), 0x11: (GP, 0), 0x12: (GP, 0),
    0x13: (UD, 0), 0x14: (GP, 0x40 * 8 + 2), 0x15: (DB, 0), 0x16: (DB, 0), 0x17: (DB, 0), 0x18: (DB, 0), 0x19: (DB, 0),
    # ring 3
    0x20: (GP, 0), 0x21: (0x31, 0), 0x22: (GP, 0x30 * 8 + 2), 0x23: (GP, 0), 0x24: (GP, 0x10), 0x25: (GP, 0),
    0x26: (GP, 0x32 * 8 + 2), 0x27: (0x31, 0), 0x28: (GP, 0),
    # virtual-8086 mode
    0x38: (GP, 0), 0x39: (0x31, 0), 0x3A: (GP, 0), 0x3B: (GP, 0),
    # 32-bit paging
    0x40: OK, 0x41: (PF, 3), 0x42: (PF, 0), 0x43: (PF, 0), 0x44: (PF, 5), 0x45: (PF, 6), 0x46: (PF, 0),
    # long mode
    0x50: (UD, 0), 0x51: (GP, 0), 0x52: (DF, 0), 0x53: (SS, 0), 0x54: (PF, 3), 0x55: (PF, 0x11), 0x56: (PF, 9), 0x57: (PF, 0),
    0x58: (PF, 5), 0x59: (GP, 0), 0x5A: (0x31, 0), 0x5B: (GP, 0x30 * 8 + 2), 0x5C: (DF, 0), 0x5D: (DF, 0), 0x5E: (GP, 0),
    0x5F: OK, 0x60: (0x31, 0), 0x61: (GP, 0), 0x62: (GP, 0), 0x63: (GP, 0), 0x64: (GP, 0), 0x65: (GP, 0), 0x66: (DB, 0), 0x67: OK,
    0x68: (GP, 0x10),
}
# The last field of a #DB line is DR6.
DR6 = {0x15: 0x4000, 0x16: 1, 0x17: 2, 0x18: 0x2000, 0x19: 0, 0x66: 0x4000}
CR2 = {0x41: 0x801004, 0x42: 0x802008, 0x43: 0xC0000000, 0x44: 0x800000, 0x45: 0x802FFE, 0x46: 0x802000, 0x54: 0x801000,
       0x55: 0x802000, 0x56: 0x803000, 0x57: 0x804000, 0x58: 0x800000}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    for command in ("gcc", "ld", "objcopy"):
        need_command(command)
    at = tmp_path_factory.mktemp("arch")
    subprocess.run(["gcc", "-c", ROOT / "tests/system/guests/arch.S", "-o", at / "arch.o"], check=True)
    subprocess.run(["ld", "-N", "--no-warn-rwx-segments", "-Ttext=0x100000", "-o", at / "arch64", at / "arch.o"], check=True)
    subprocess.run(["objcopy", "-O", "elf32-i386", at / "arch64", at / "arch"], check=True)
    return at / "arch"


def run_lodge(program, kernel, cmdline, engine="soft"):
    command = [program("lodge-vmm"), "--quiet", "--engine", engine, "--kernel", kernel, "--memory", "64M", "--exit-port",
               "--debug-console", "--on-reset", "exit", "--cmdline", cmdline]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert result.returncode == 5 << 1 | 1, result.stdout
    return result.stdout.replace("\r", "")


def parse(text):
    """{check: (vector, error, last field)} of the exception lines, {check: None} of the others."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        exceptions = [i for i, field in enumerate(fields) if field.startswith("E") and len(field) > 8]
        if exceptions:
            i = exceptions[-1]
            found[int(fields[i - 1], 16)] = (int(fields[i][1:], 16), int(fields[i + 1], 16), int(fields[-1], 16))
        elif fields and fields[-1] == "o":
            found[int(fields[-2], 16)] = None
    return found


@pytest.mark.parametrize("engine", ["soft,runs=0", "soft,tier=interp"])
def test_exceptions(program, kernel, engine):
    found = parse(run_lodge(program, kernel, "strict", engine))
    assert {check: value and value[:2] for check, value in found.items()} == EXPECTED
    assert {check: found[check][2] for check in DR6} == DR6
    assert {check: found[check][2] for check in CR2} == CR2


def test_same_as_qemu(program, kernel, tmp_path):
    qemu = need_command("qemu-system-x86_64")
    output = tmp_path / "qemu"
    subprocess.run([qemu, "-M", "pc", "-accel", "tcg", "-cpu", "max", "-display", "none", "-nodefaults", "-no-reboot", "-m", "64",
                    "-kernel", kernel, "-append", "loose", "-debugcon", f"file:{output}",
                    "-device", "isa-debug-exit,iobase=0xf4"], timeout=60, check=False)
    theirs = output.read_text().splitlines()
    assert len(theirs) > 50
    assert run_lodge(program, kernel, "loose").splitlines() == theirs
