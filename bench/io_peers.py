# SPDX-License-Identifier: Apache-2.0
"""One kernel and one initramfs on lodge-vmm and on QEMU's TCG, for bench/net.py and bench/blk.py."""
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ["drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_mmio.ko",
           "drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci_legacy_dev.ko", "drivers/virtio/virtio_pci.ko",
           "net/core/failover.ko", "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko", "drivers/block/virtio_blk.ko"]


def pack_initramfs(tree: Path) -> Path:
    """The tree as an initramfs beside it."""
    image = tree.parent / "initramfs.cpio"
    with open(image, "wb") as out:
        names = subprocess.run(["find", "."], cwd=tree, capture_output=True, check=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names, stdout=out, check=True)
    return image


class Peers:
    """The two machines. `kernel` is a directory of build/guest/kernels."""

    def __init__(self, build: Path, place: Path, kernel: str, script: str, memory: int = 512):
        self.build, self.memory = build, memory
        self.kernel = build / "guest" / "kernels" / kernel
        if not self.kernel.exists() and "LODGE_GUEST" in os.environ:
            self.kernel = Path(os.environ["LODGE_GUEST"]) / "kernels" / kernel
        subprocess.run(["ninja", "-C", build, "bench/io_work", "bin/lodge-vmm"], check=True, stdout=subprocess.DEVNULL)
        self.io_work = build / "bench" / "io_work"
        self.initramfs = self.pack(place, script)
        self.names = ["lodge"] + (["tcg"] if shutil.which("qemu-system-x86_64") else [])

    def pack(self, place: Path, script: str) -> Path:
        tree = place / "tree"
        for name in ("bin", "proc", "dev", "sys"):
            (tree / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or sys.exit("busybox (static) is needed"), tree / "bin" / "busybox")
        shutil.copy(self.io_work, tree / "bin" / "io_work")
        init = ("#!/bin/busybox sh\n/bin/busybox --install -s /bin\nmount -t proc proc /proc\nmount -t sysfs sys /sys\n"
                "mount -t devtmpfs dev /dev\n")
        for path in MODULES:
            found = sorted((self.kernel / "lib/modules").glob(f"*/kernel/{path}"))
            if found:
                shutil.copy(found[0], tree)
                init += f"insmod /{found[0].name}\n"
        (tree / "init").write_text(init + script + "\npoweroff -f\n")
        (tree / "init").chmod(0o755)
        return pack_initramfs(tree)

    def command(self, name: str, net: str = "", disk: str = "") -> list[str]:
        """net: a tap interface; disk: an image, read-only."""
        vmlinuz, cmdline = str(self.kernel / "vmlinuz"), "console=ttyS0 panic=-1 quiet mitigations=off"
        if name == "lodge":
            command = [str(self.build / "bin" / "lodge-vmm"), "--engine", os.environ.get("LODGE_ENGINE", "soft"), "--quiet",
                       "--kernel", vmlinuz, "--initrd", str(self.initramfs), "--memory", f"{self.memory}M", "--cmdline", cmdline]
            return command + (["--net", f"tap={net}"] if net else []) + (["--disk", f"{disk},ro"] if disk else [])
        command = ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-m", str(self.memory), "-nodefaults", "-no-reboot", "-display",
                   "none", "-serial", "stdio", "-kernel", vmlinuz, "-initrd", str(self.initramfs), "-append", cmdline]
        if net:
            command += ["-netdev", f"tap,id=n0,ifname={net},script=no,downscript=no,vnet_hdr=on", "-device", "virtio-net-pci,netdev=n0"]
        if disk:
            command += ["-drive", f"file={disk},if=virtio,format=raw,readonly=on,aio=io_uring"]
        return command


class Lines:
    """A process's output line by line, with the time at which each came."""

    def __init__(self, command, limit_s: float = 180):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.end, self.seen = time.monotonic() + limit_s, []

    def until(self, text: str) -> float:
        for raw in self.process.stdout:
            now, line = time.monotonic(), raw.decode(errors="replace").strip()
            self.seen.append(line)
            if text in line:
                return now
            if now > self.end:
                break
        raise RuntimeError(f"no {text!r}; output ends with:\n" + "\n".join(self.seen[-20:]))

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def table(rows: list[tuple[str, str, str, float]], results: dict[str, list[dict[str, float]]]) -> None:
    """rows: (key, title, unit, sense): sense -1 where less is better."""
    import statistics
    print(f"{'':<34}{'lodge':>12}{'tcg':>12}{'lodge/tcg':>12}")
    for key, title, unit, _ in rows:
        medians = {name: statistics.median(run[key] for run in runs) for name, runs in results.items() if runs}
        ratio = (statistics.median(a[key] / b[key] for a, b in zip(results["lodge"], results["tcg"])) if results.get("tcg") else float("nan"))
        print(f"{title + ' (' + unit + ')':<34}{medians['lodge']:>12.1f}{medians.get('tcg', float('nan')):>12.1f}{ratio:>12.2f}")
