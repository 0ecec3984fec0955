# SPDX-License-Identifier: Apache-2.0
"""Profiles: samples land in the functions that the guest's time went to, and nowhere else."""
import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from lodge_run import Lodge, need_image, need_kernel
from vmm import Vmm, control, cpio, kernel

ROOT = Path(__file__).resolve().parent.parent.parent

# Two loops of the same instructions, three times as many rounds of one; then system calls. Each is in a page of its own, and runs for
# much longer than the time between two samples, so that the sampling cannot keep step with them.
SOURCE = r"""
#include <stdio.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>
#define LOOP(name) __attribute__((noinline, noclone, aligned(4096))) unsigned long name(unsigned long n) \
    { unsigned long x = n; for (unsigned long i = 0; i < n; i++) { x = x * 6364136223846793005ul + 1; __asm__ volatile("" : "+r"(x)); } return x; }
LOOP(heavy)
LOOP(light)
static __attribute__((noinline)) void calls(void) { for (int i = 0; i < ROUNDS * (LIGHT / 80); i++) syscall(SYS_getppid); }
int main(void)
{
    unsigned long sum = 0;
    for (int i = 0; i < ROUNDS; i++) { sum += heavy(3 * LIGHT); sum += light(LIGHT); }
    calls();
    printf("done %lx\n", sum);
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 0;
}
"""


def build(folder, rounds, light=20000000):
    compiler = shutil.which("gcc") or pytest.skip("needs a C compiler")
    (folder / "work.c").write_text(SOURCE)
    subprocess.run([compiler, "-O2", "-static", "-no-pie", f"-DROUNDS={rounds}", f"-DLIGHT={light}", "-o", folder / "work", folder / "work.c"], check=True)
    program = (folder / "work").read_bytes()
    (folder / "initrd").write_bytes(cpio({"dev": (stat.S_IFDIR | 0o755, b""), "dev/console": (stat.S_IFCHR | 0o600, (5, 1)),
                                          "init": (stat.S_IFREG | 0o755, program)}))


def profile(path):
    """Samples by the last frame, and the user's frames below it."""
    samples = {}
    for line in path.read_text().splitlines():
        stack, count = line.rsplit(" ", 1)
        space, function = stack.rsplit(";", 1)
        assert space == "kernel" or re.fullmatch(r"user;space-[0-9a-f]+", space), line
        key = (space.split(";")[0], function)
        samples[key] = samples.get(key, 0) + int(count)
    return samples


@pytest.fixture
def symbols(program, guest, tmp_path):
    """The kernel's System.map, from a guest: through tools/kernel_symbols.sh on a store of its own."""
    need_image(guest, "busybox")
    need_kernel(guest, "cloud")
    store = tmp_path / "store"
    (store / "kernels/cloud").mkdir(parents=True)
    for entry in (guest / "kernels/cloud").iterdir():
        if entry.name != "System.map":
            (store / "kernels/cloud" / entry.name).symlink_to(entry)
    (store / "images").symlink_to(guest / "images")
    lodge = Lodge(program("lodge"), store)
    subprocess.run([ROOT / "tools/kernel_symbols.sh", "--store", store, "cloud"], env=dict(lodge.env, LODGE=program("lodge")), check=True,
                   timeout=120)
    lodge.assert_clean()
    return store / "kernels/cloud/System.map"


# Many rounds everywhere: a host that is busy with others during one of them may not tip the scale.
@pytest.mark.parametrize("engine, light, cpus", [("soft", 20000000, 1), ("soft", 20000000, 2), ("soft,tier=interp", 3300000, 1)])
def test_samples_land_where_the_time_goes(program, guest, symbols, tmp_path, engine, light, cpus):
    build(tmp_path, 12, light)
    out = tmp_path / "out"
    with Vmm(program("lodge-vmm"), "--engine", engine, "--kernel", kernel(guest, "cloud"), "--initrd", tmp_path / "initrd", "--quiet",
             "--cpus", cpus, "--cmdline", "console=ttyS0 quiet panic=-1", "--profile", out, "--symbols", tmp_path / "work",
             "--symbols", symbols) as vmm:
        assert vmm.wait() == 0
        assert "done" in vmm.output
    samples = profile(out)
    user = sum(count for (mode, _), count in samples.items() if mode == "user")
    heavy, light = samples["user", "heavy"], samples["user", "light"]
    assert heavy + light > 100
    assert 2.2 < heavy / light < 4.0, samples
    # What else the program does in user mode is its loop of system calls.
    callers = sum(samples.get(("user", name), 0) for name in ("calls", "syscall", "main"))
    assert heavy + light + callers >= 0.9 * user, samples  # some tens of samples are its start's, whatever the whole is
    assert not {"heavy", "light", "calls", "main"} & {name for mode, name in samples if mode == "kernel"}
    # The kernel's share of the system calls has its names.
    in_calls = sum(count for (mode, name), count in samples.items()
                   if mode == "kernel" and re.search("syscall|sys_getppid|SYSCALL|SYSRET|pid_nr|rcu_read|exit_to_user", name))
    assert in_calls >= 10, samples
    assert sum(count for (mode, name), count in samples.items() if mode == "kernel" and name.startswith("0x")) < 0.1 * sum(samples.values())
    assert f"<title>heavy: {heavy} samples" in Path(f"{out}.svg").read_text()


def test_perf_map_names_translated_code(program, guest, tmp_path):
    build(tmp_path, 1)
    with Vmm(program("lodge-vmm"), "--engine", "soft", "--kernel", kernel(guest, "cloud"), "--initrd", tmp_path / "initrd", "--quiet",
             "--cmdline", "console=ttyS0 quiet panic=-1", "--perf-map", "--symbols", tmp_path / "work", "--control", tmp_path / "control") as vmm:
        path = Path(f"/tmp/perf-{vmm.process.pid}.map")
        # While it runs, if it still does: there is code soon, and then some more.
        before = 0
        while vmm.process.poll() is None and not before:
            try:
                assert control(tmp_path / "control", {"command": "perf-map"})[0]["ok"]
            except (OSError, json.JSONDecodeError, IndexError):
                continue
            before = len(path.read_text().splitlines())
        assert vmm.wait() == 0
    try:
        entries = [line.split() for line in path.read_text().splitlines()]
    finally:
        path.unlink()
    ranges = sorted((int(start, 16), int(size, 16)) for start, size, _ in entries)
    assert 0 < before < len(ranges)
    assert len(ranges) > 100 and all(size > 0 for _, size in ranges)
    assert all(first + size <= second for (first, size), (second, _) in zip(ranges, ranges[1:]))
    assert {"heavy", "light"} <= {name.split(":")[1].split("+")[0] for _, _, name in entries if name.startswith("guest-user:")}


def test_lodge_run_writes_a_profile(program, guest, tmp_path):
    need_image(guest, "busybox")
    need_kernel(guest, "cloud")
    lodge = Lodge(program("lodge"), guest, ["--vm", "--engine", "soft"])
    out = tmp_path / "stacks"
    assert lodge.run("-q", "--profile", out, "busybox", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done").returncode == 0
    assert sum(profile(out).values()) > 20
    assert os.stat(out).st_mode & 0o077 == 0
    assert Path(f"{out}.svg").read_text().endswith("</svg>\n")
    done = lodge.run("-q", "--profile", tmp_path / "no/where", "busybox", "true")
    assert done.returncode == 125 and b"no/where" in done.stderr
    lodge.assert_clean()
