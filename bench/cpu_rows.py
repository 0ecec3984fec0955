# SPDX-License-Identifier: Apache-2.0
"""The rows of bench/cpu.py: which kernel belongs to which group, and the bar that the group has to reach."""
from dataclasses import dataclass


@dataclass
class Group:
    name: str  # for --rows
    title: str
    rows: tuple
    tcg: float | None = None  # at least so many times faster than TCG
    native: float | None = None  # at most so many times slower than the host
    extra: tuple = ()  # measured and shown, not in the mean


GROUPS = [
    Group("integer", "integer kernels", ("list", "matrix", "state", "crc", "qsort", "hash", "bytecode", "btree"), 2.5, 1.9,
          ("fib", "divide", "memcpy")),
    Group("programs", "Lua, SQLite, Python, gzip, zstd", ("lua-long", "sqlite-long", "python-long", "gzip-long", "zstd-long"), 4, 2.6),
    Group("short", "the same, a tenth of it in a process", ("lua", "sqlite", "python", "gzip", "zstd"), 4, 2.6,
          ("python-start", "gunzip", "unzstd")),
    Group("float", "floating point, SSE2 and AVX2",
          ("nbody", "matmul", "mandelbrot", "fft", "nbody-avx2", "matmul-avx2", "mandelbrot-avx2", "fft-avx2"), 20, 1.8,
          ("nbody-x87", "matmul-x87")),
    Group("getppid", "getppid loop", ("getppid",), 2, 3),
    Group("system", "faults, mmap, pipes, signals", ("fault", "mmap", "pipe", "signal"), 5),
    Group("process", "fork+exec+wait, shell script, gcc -O2", ("exec", "shell", "gcc"), 3, None, ("fork",)),
    Group("boot", "boot to the first line of user space", ("boot",), 3),
    Group("smp", "two vCPUs over one (throughput)", ("threads1", "threads2")),
]
SMP_BAR = 1.8


def select(text):
    """'integer,lua': the groups with the wanted rows only; everything when nothing is said."""
    if not text:
        return GROUPS
    wanted, chosen = [name for name in text.replace(" ", ",").split(",") if name], []
    known = {name for group in GROUPS for name in (group.name, *group.rows, *group.extra)}
    for name in wanted:
        if name not in known:
            raise SystemExit(f"cpu.py: no row or group '{name}': there are {', '.join(sorted(known))}")
    for group in GROUPS:
        if group.name in wanted or (group.name == "smp" and {"threads1", "threads2"} & set(wanted)):
            chosen.append(group)
            continue
        rows = tuple(row for row in group.rows if row in wanted)
        extra = tuple(row for row in group.extra if row in wanted)
        if rows or extra:
            chosen.append(Group(group.name, group.title, rows, group.tcg, group.native, extra))
    return chosen
