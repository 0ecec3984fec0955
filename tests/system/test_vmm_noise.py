# SPDX-License-Identifier: Apache-2.0
"""Random bytes as a kernel: the machine may end with a reason, or run on; the monitor neither crashes nor stops answering."""
import os
import random
import struct
import subprocess

import pytest

from vmm import control

LONG = float(os.environ.get("LODGE_TEST_LONG", "0") or 0)
# docs/lodge-vmm.md: power-off, reset, unsupported, triple fault, and the exit port's odd numbers
SIGNALS = range(-64, 0)


def long_mode_prelude():
    """32-bit code that enters 64-bit mode with 1 GiB of large pages at 0x80000 and exception handlers somewhere in the noise."""
    code = bytearray()
    code += b"\xfa"                                                      # cli
    code += b"\xbf\x00\x00\x08\x00\xc7\x07\x07\x10\x08\x00"              # mov edi, 80000h; mov dword [edi], 81007h
    code += b"\xc7\x87\x00\x10\x00\x00\x07\x20\x08\x00"                  # mov dword [edi + 1000h], 82007h
    code += b"\xb9\x00\x00\x00\x00"                                      # mov ecx, 0
    loop = len(code)
    code += b"\x89\xc8\xc1\xe0\x15\x0d\x87\x00\x00\x00"                  # mov eax, ecx; shl eax, 21; or eax, 87h
    code += b"\x89\x84\xcf\x00\x20\x00\x00"                              # mov [edi + ecx * 8 + 2000h], eax
    code += b"\x41\x81\xf9\x00\x02\x00\x00"                              # inc ecx; cmp ecx, 512
    code += b"\x75" + struct.pack("b", loop - (len(code) + 2))           # jne loop
    code += b"\x0f\x22\xdf"                                              # mov cr3, edi
    code += b"\x0f\x20\xe0\x0d\xa0\x06\x00\x00\x0f\x22\xe0"              # cr4 |= PAE PGE OSFXSR OSXMMEXCPT
    code += b"\xb9\x80\x00\x00\xc0\x0f\x32\x0d\x01\x01\x00\x00\x0f\x30"  # EFER |= LME SCE
    code += b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0"              # cr0 |= PG
    gdt = 0x100000 + 0x200
    code += b"\x0f\x01\x15" + struct.pack("<I", gdt + 0x40)              # lgdt
    code += b"\x0f\x01\x1d" + struct.pack("<I", gdt + 0x50)              # lidt
    code += b"\xea" + struct.pack("<IH", 0x101000, 8)                    # jmp 8:101000h
    code += b"\0" * (0x200 - len(code))
    code += struct.pack("<QQQ", 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
    code += b"\0" * (0x240 - len(code)) + struct.pack("<HI", 0x17, gdt)
    code += b"\0" * (0x250 - len(code)) + struct.pack("<HI", 0xFFF, 0x102000)
    return bytes(code) + b"\0" * (0x1000 - len(code))


def elf(seed, prelude):
    """An ELF file with a PVH entry: noise alone, or 64-bit mode and then noise, with gates that lead into it."""
    rng = random.Random(seed)
    payload = bytearray(rng.randbytes(0x40000))
    if prelude:
        payload[:0x1000] = long_mode_prelude()
        payload[0x1000:0x100A] = b"\x48\xbc" + struct.pack("<Q", 0x1F0000)  # mov rsp
        for vector in range(256):
            handler = 0x103000 + rng.randrange(0x30000)
            payload[0x2000 + 16 * vector:0x2010 + 16 * vector] = struct.pack("<HHHHII", handler & 0xFFFF, 8, 0x8E00, handler >> 16, 0, 0)
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100000)
    header = 64 + 2 * 56
    ident = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    out = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    out += struct.pack("<IIQQQQQQ", 4, 4, header, 0, 0, len(note), len(note), 4)
    out += struct.pack("<IIQQQQQQ", 1, 7, 0x1000, 0x100000, 0x100000, len(payload), len(payload), 0x1000)
    out += note
    return out + b"\0" * (0x1000 - len(out)) + bytes(payload)


@pytest.mark.parametrize("prelude", [False, True], ids=["protected-mode", "long-mode"])
def test_noise(program, tmp_path, prelude):
    ended = {}
    for seed in range(int(8 * max(1, LONG))):
        kernel, socket = tmp_path / "kernel", tmp_path / f"control-{seed}"
        kernel.write_bytes(elf(seed, prelude))
        process = subprocess.Popen([program("lodge-vmm"), "--quiet", "--engine", "soft,runs=0", "--kernel", kernel, "--memory", "32M", "--cpus", "2",
                                    "--on-reset", "exit", "--exit-port", "--control", socket],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = process.communicate(timeout=1.5)
            ended[process.returncode] = ended.get(process.returncode, 0) + 1
            assert process.returncode not in SIGNALS and b"Sanitizer" not in output, (seed, process.returncode, output[-2000:])
        except subprocess.TimeoutExpired:
            ended["runs"] = ended.get("runs", 0) + 1
            status = control(socket, {"command": "status"})[0]
            assert status["ok"] and status["result"]["state"] == "running", (seed, status)
            process.kill()
            process.communicate()
    print(ended)
    assert 2 not in ended and 1 not in ended, "the file was refused, not run"
