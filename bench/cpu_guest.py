# SPDX-License-Identifier: Apache-2.0
"""What bench/cpu.py boots and runs: the guest's tree and initial RAM disks, the processes, and their clocks."""
import hashlib
import lzma
import os
import select
import shutil
import stat
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUEST = ROOT / "bench/guest"
# What `lodge run` gives its guests.
CMDLINE = "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests"
READY, DONE, FAIL = b"=ready", b"=done ", b"=fail "


class Failure(Exception):
    pass


def store():
    """Where kernels and images are: LODGE_HOME, else this checkout's build."""
    return Path(os.environ.get("LODGE_HOME", ROOT / "build/guest"))


def kernel(name):
    path = store() / "kernels" / name / "vmlinuz"
    if not path.exists():
        subprocess.run([ROOT / "tools/fetch_kernel.sh", "--store", store(), name], check=True, stdout=sys.stderr)
    return path


def image():
    path = store() / "images/bench"
    if not (path / "config.json").exists():
        subprocess.run([ROOT / "tools/make_images.sh", "--store", store(), "bench"], check=True, stdout=sys.stderr)
    return path


def cpio(tree, out):
    names = subprocess.run(["find", ".", "-mindepth", "1"], cwd=tree, capture_output=True, check=True).stdout
    subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=tree, input=names, stdout=out, check=True)


def in_tree(tree, *command):
    """A command line that runs `command` with `tree` as its root, its own /tmp, and the host's devices."""
    script = 'mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp" && exec chroot "$0" "$@"'
    return ["unshare", "-m", *(["-r"] if os.geteuid() else []), "sh", "-c", script, str(tree), *command]


def prepare(place):
    """Makes PLACE/tree (for the host), PLACE/full.cpio and PLACE/small.cpio (for guests), if something in them has changed."""
    source = image()
    digest = hashlib.sha256((source / "config.json").read_bytes())
    for path in sorted(GUEST.iterdir()):
        digest.update(path.read_bytes())
    mark = place / "made-from"
    if mark.exists() and mark.read_text() == digest.hexdigest():
        return
    print("cpu.py: making the guest's tree and RAM disks", file=sys.stderr)
    work = place.with_name(f"{place.name}.new.{os.getpid()}")
    tree = work / "tree"
    work.mkdir(parents=True)
    subprocess.run(["cp", "-a", source / "rootfs", tree], check=True)
    (tree / "bench").mkdir(exist_ok=True)
    subprocess.run([GUEST / "build.sh", tree / "init"], check=True)
    subprocess.run([sys.executable, GUEST / "prepare.py", tree / "bench"], check=True)
    subprocess.run(in_tree(tree, "/usr/bin/zstd", "-q", "-3", "/bench/text", "-o", "/bench/text.zst"), check=True)
    # A distribution's installation would have compiled these.
    subprocess.run(in_tree(tree, "/usr/bin/python3.11", "-m", "compileall", "-q", "/usr/lib/python3.11"), check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(work / "full.cpio", "wb") as out:
        cpio(tree, out)
    small = work / "small"
    for name in ("dev", "proc", "sys", "tmp"):
        (small / name).mkdir(parents=True)
    shutil.copy(tree / "init", small / "init")
    if not os.geteuid():
        os.mknod(small / "dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1))
    with open(work / "small.cpio", "wb") as out:
        cpio(small, out)
    (work / "made-from").write_text(digest.hexdigest())
    shutil.rmtree(place, ignore_errors=True)
    work.rename(place)


def unpacked_kernel(vmlinuz, place):
    """The ELF file inside a bzImage (boot protocol 2.08: payload_offset, payload_length), or None: QEMU boots it faster."""
    out = place / f"vmlinux-{hashlib.sha256(str(vmlinuz.resolve()).encode()).hexdigest()[:12]}"
    if out.exists() and out.stat().st_mtime > vmlinuz.stat().st_mtime:
        return out
    image = vmlinuz.read_bytes()
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = ((image[0x1f1] or 4) + 1) * 512 + offset
    payload = image[start:start + length]
    if payload[:6] == b"\xfd7zXZ\0":
        data = lzma.LZMADecompressor().decompress(payload)
    elif payload[:2] == b"\x1f\x8b":
        data = zlib.decompressobj(31).decompress(payload)
    elif payload[:4] == b"\x28\xb5\x2f\xfd" and shutil.which("zstd"):
        data = subprocess.run(["zstd", "-q", "-d", "-c"], input=payload, stdout=subprocess.PIPE, check=False).stdout
    else:
        return None
    if data[:4] != b"\x7fELF":
        return None
    out.write_bytes(data)
    return out


def process_seconds(pid):
    """Processor time of a whole process, ended threads included: its CPU clock (clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)


class Runner:
    """A process with bench/guest/runner.c at the other end of its standard input and output."""

    def __init__(self, name, command, limit=180):
        self.name, self.limit, self.buffer, self.said = name, limit, b"", b""
        started = time.monotonic()
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, cwd="/")
        try:
            self.line(READY)
        except Failure:
            self.close()
            raise
        self.boot = {"wall": time.monotonic() - started, "cpu": process_seconds(self.process.pid)}

    def line(self, *starts):
        """The next line of output that starts with one of these."""
        out, until = self.process.stdout.fileno(), time.monotonic() + self.limit
        while True:
            while b"\n" in self.buffer:
                text, self.buffer = self.buffer.split(b"\n", 1)
                text = text.strip()
                for start in starts:
                    at = text.find(start)
                    if at >= 0:
                        return text[at:]
                    if FAIL in text:
                        raise Failure(f"{self.name}: {text.decode(errors='replace')}")
            if not select.select([out], [], [], max(0, until - time.monotonic()))[0]:
                raise Failure(f"{self.name}: nothing for {self.limit} s; it said last: {self.said[-1500:].decode(errors='replace')}")
            part = os.read(out, 65536)
            if not part:
                raise Failure(f"{self.name}: ended; it said last: {self.said[-1500:].decode(errors='replace')}")
            self.buffer += part
            self.said = (self.said + part)[-4000:]

    def row(self, name, scale=1):
        cpu, wall = process_seconds(self.process.pid), time.monotonic()
        self.process.stdin.write(f"{name} {scale}\n".encode())
        self.process.stdin.flush()
        fields = self.line(DONE).split()
        wall, cpu = time.monotonic() - wall, process_seconds(self.process.pid) - cpu
        if fields[1].decode() != name:
            raise Failure(f"{self.name}: {name} was asked for, {fields[1].decode()} answered")
        return {"cpu": cpu, "wall": wall, "guest_wall": int(fields[2]) / 1e9, "guest_cpu": int(fields[3]) / 1e9,
                "checksum": fields[4].decode()}

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Native(Runner):
    """On the bare host the work's children are processes of their own: the runner adds up."""

    def row(self, name, scale=1):
        result = super().row(name, scale)
        result["cpu"] = result["guest_cpu"]
        return result


def lodge_command(build, engine, vmlinuz, initrd, cpus, memory, append):
    return [build / "bin/lodge-vmm", "--quiet", "--engine", engine, "--kernel", vmlinuz, "--initrd", initrd, "--memory", f"{memory}M",
            "--cpus", cpus, "--cmdline", f"{CMDLINE} {append}".strip()]


def tcg_command(machine, vmlinuz, initrd, cpus, memory, append):
    """QEMU at its best: every feature it can emulate, a thread for each vCPU, no devices that are not needed."""
    return ["qemu-system-x86_64", "-M", machine, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", cpus, "-m", f"{memory}M",
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel", vmlinuz,
            "-initrd", initrd, "-append", f"{CMDLINE} {append}".strip()]
