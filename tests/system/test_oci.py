# SPDX-License-Identifier: Apache-2.0
"""lodge-oci as its callers see it; where runc is installed, the same bundle run by it says what is right."""
import fcntl
import itertools
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
from pathlib import Path

import pytest

from conftest import need_command, need_root
from patience import PATIENCE_S, until

APPLETS = "sh ls ps cat id mount sleep true false echo kill stat hostname tty stty dd ulimit sort env pwd grep tr cut".split()


@pytest.fixture(scope="module")
def rootfs():
    need_root()
    busybox = need_command("busybox")
    # Not below pytest's own directory: that one is closed to the users of a user namespace.
    root = Path(tempfile.mkdtemp(prefix="lodge-rootfs-"))
    root.chmod(0o755)
    (root / "bin").mkdir()
    shutil.copy(busybox, root / "bin" / "busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    yield root
    shutil.rmtree(root)


SERIAL = itertools.count()


class Runtime:
    """One bundle, run by lodge-oci or by a peer."""

    def __init__(self, program, rootfs, tmp_path):
        self.program = program
        self.bundle = tmp_path / "bundle"
        self.state = tmp_path / "state"
        (self.bundle / "root").mkdir(parents=True)
        subprocess.run([program, "spec", "--bundle", self.bundle], check=True)
        self.config = json.loads((self.bundle / "config.json").read_text())
        self.config["process"]["terminal"] = False
        self.config["root"] = {"path": str(rootfs), "readonly": False}
        self.rootfs = rootfs
        # Cgroups are the host's: two test runs at once must not meet.
        self.name = f"lodge-test-{os.getpid()}-{next(SERIAL)}"

    def overlay(self, **annotations):
        self.config["root"] = {"path": "root"}
        self.config["annotations"] = {"io.lodge.overlay.lower": str(self.rootfs),
                                      **{f"io.lodge.{k.replace('_', '.')}": v for k, v in annotations.items()}}

    def write(self, *args):
        if args:
            self.config["process"]["args"] = list(args)
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def command(self, *args, program=None):
        return [program or self.program, "--root", str(self.state), *args]

    def run(self, *args, name=None, program=None, options=(), check=True, **more):
        self.write(*args)
        done = subprocess.run(self.command(*options, "run", "--bundle", str(self.bundle), name or self.name, program=program),
                              text=True, capture_output=True, timeout=PATIENCE_S, **more)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def peer(self, *args, check=True):
        """The same run by runc; once more where it is runc that failed, not the container, which happens on a busy host."""
        runc, log = need_command("runc"), self.bundle / "peer.log"
        for left in range(3, -1, -1):
            log.write_text("")
            done = self.run(*args, name=self.name + "-peer", program=runc, options=("--log", str(log)), check=False)
            done.troubles = log.read_text() + done.stderr
            if not left or "level=error" not in done.troubles:
                break
            subprocess.run(self.command("delete", "--force", self.name + "-peer", program=runc), capture_output=True)
        if check:
            assert done.returncode == 0, done.troubles
        return done

    def as_runc(self, script, *, check=True):
        """Runs a shell's script with both; what it wrote and its status must be the same, and are returned."""
        need_command("runc")
        ours = self.run("sh", "-c", script, check=check)
        theirs = self.peer("sh", "-c", script, check=check)
        assert (ours.stdout, ours.returncode) == (theirs.stdout, theirs.returncode), (ours.stderr, theirs.troubles)
        return ours.stdout

    def running(self):
        """The list's entries of what runs."""
        listed = json.loads(subprocess.check_output(self.command("list", "--format", "json")))
        return [one for one in listed or [] if one["status"] == "running"]

    def nothing_left(self):
        name = self.name
        assert not (self.state / name).exists()
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{name}")) and not Path("/sys/fs/cgroup", name).exists()
        assert str(self.bundle) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def runtime(program, rootfs, tmp_path):
    return Runtime(program("lodge-oci"), rootfs, tmp_path)


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_exit_status(runtime, status):
    assert runtime.run("sh", "-c", f"exit {status}", check=False).returncode == status
    runtime.nothing_left()


def test_a_fatal_signal_is_128_plus_its_number(runtime):
    runtime.overlay(init="true")
    assert runtime.run("sh", "-c", "kill -9 $$", check=False).returncode == 137
    runtime.nothing_left()


def test_the_reaper_names_no_place_of_the_host(runtime):
    runtime.overlay(init="true")
    done = runtime.run("sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; cat /proc/1/comm /proc/self/comm")
    assert done.stdout.split() == ["lodge-init", "lodge-init", "cat"]


def test_missing_program_is_127_and_unusable_is_126(runtime):
    missing = runtime.run("nosuch", check=False)
    assert missing.returncode == 127 and "nosuch" in missing.stderr
    assert runtime.run("/bin", check=False).returncode == 126
    runtime.nothing_left()


def test_streams_stay_apart(runtime):
    done = runtime.run("sh", "-c", "cat; echo problem >&2", input="through\n")
    assert (done.stdout, done.stderr) == ("through\n", "problem\n")


# Each of these is run by lodge-oci and by runc on one configuration; what the container sees must be the same.
PROBES = {
    "capabilities": "grep -E '^(Cap|NoNewPrivs)' /proc/self/status",
    "identity": "id; hostname; pwd; env | sort",
    "limits": "cat /proc/self/limits | tr -s ' '",
    "devices": "stat -c '%n %F %a %t,%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; stat -c %N /dev/fd /dev/ptmx",
    "mounts": "cut -d' ' -f2 /proc/mounts | grep -v -e sys/fs/cgroup | sort",
    "processes": "ps -o pid,args | head -n 1; echo $$",
    "namespaces": "ls /proc/self/ns | sort",
    "umask": "umask",
}


@pytest.mark.parametrize("probe", PROBES)
def test_the_inside_is_what_runc_makes_it(runtime, probe):
    runtime.as_runc(PROBES[probe])


def test_namespaces_are_new(runtime):
    inside = runtime.run("sh", "-c", "for n in pid net ipc uts mnt cgroup; do stat -L -c %i /proc/self/ns/$n; done").stdout.split()
    outside = [str(os.stat(f"/proc/self/ns/{n}").st_ino) for n in "pid net ipc uts mnt cgroup".split()]
    assert not set(inside) & set(outside)


def test_overlay_root_keeps_the_image_clean(runtime, rootfs):
    runtime.overlay(overlay_size="1m")
    done = runtime.run("sh", "-c", "echo new >/file && cat /file; dd if=/dev/zero of=/big bs=1M count=2", check=False)
    assert done.stdout == "new\n" and "No space left" in done.stderr
    assert not (rootfs / "file").exists() and not list((runtime.bundle / "root").iterdir())
    runtime.nothing_left()


def test_the_host_is_out_of_reach(runtime):
    done = runtime.run("sh", "-c", "ls /proc/1/root/; cat /proc/kcore | dd bs=1 count=1; echo x >/proc/sys/kernel/hostname", check=False)
    assert "etc" not in done.stdout.split()
    assert done.returncode != 0


def test_memory_limit_kills(runtime):
    runtime.config["linux"]["resources"]["memory"] = {"limit": 8 << 20, "swap": 8 << 20}
    runtime.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    assert runtime.run("dd", "if=/dev/zero", "of=/tmp/x", "bs=64M", "count=1", check=False).returncode in (137, 1)
    runtime.nothing_left()


def test_pids_limit_holds(runtime):
    runtime.config["linux"]["resources"]["pids"] = {"limit": 3}
    done = runtime.run("sh", "-c", "for i in 1 2 3 4 5; do sleep 1 & done; wait", check=False)
    assert "fork" in done.stderr


def test_cpu_quota_and_weight_reach_the_kernel(runtime):
    runtime.config["linux"]["resources"]["cpu"] = {"shares": 512, "quota": 50000, "period": 100000}
    done = runtime.run("sh", "-c", "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || "
                                   "cat /sys/fs/cgroup/cpu.weight /sys/fs/cgroup/cpu.max")
    assert done.stdout.split() in (["512", "50000"], ["59", "50000", "100000"])


def test_user_namespace_maps_root_away(runtime):
    runtime.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        runtime.config["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    assert runtime.run("cat", "/proc/self/uid_map").stdout.split() == ["0", "100000", "65536"]
    runtime.nothing_left()


def test_life_by_the_single_verbs(runtime):
    runtime.write("sleep", "100")
    with open(os.devnull, "w") as null:
        subprocess.run(runtime.command("create", "--bundle", str(runtime.bundle), runtime.name), check=True, stdout=null, stderr=null)

    def status():
        return json.loads(subprocess.check_output(runtime.command("state", runtime.name)))["status"]

    assert status() == "created"
    again = subprocess.run(runtime.command("create", "--bundle", str(runtime.bundle), runtime.name), text=True, capture_output=True)
    assert again.returncode == 1 and "exists already" in again.stderr
    subprocess.run(runtime.command("start", runtime.name), check=True)
    assert status() == "running"
    busy = subprocess.run(runtime.command("delete", runtime.name), text=True, capture_output=True)
    assert busy.returncode == 1 and "running" in busy.stderr
    subprocess.run(runtime.command("kill", runtime.name, "KILL"), check=True)
    until(lambda: status() == "stopped")
    subprocess.run(runtime.command("delete", runtime.name), check=True)
    runtime.nothing_left()


def test_signals_reach_the_program(runtime):
    runtime.overlay(init="true")
    runtime.write("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    child = subprocess.Popen(runtime.command("run", "--bundle", str(runtime.bundle), runtime.name), stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(PATIENCE_S) == 7
    runtime.nothing_left()


def test_killed_runtime_leaves_what_delete_removes(runtime):
    runtime.write("sleep", "100")
    child = subprocess.Popen(runtime.command("run", "--bundle", str(runtime.bundle), runtime.name))
    pid = until(runtime.running)[0]["pid"]
    child.kill()
    child.wait()
    until(lambda: not Path(f"/proc/{pid}").exists())
    subprocess.run(runtime.command("delete", "--force", runtime.name), check=True)
    runtime.nothing_left()


def test_death_of_the_caller_ends_the_container(runtime):
    runtime.write("sleep", "100")
    command = " ".join(runtime.command("run", "--exit-with-parent", "--bundle", str(runtime.bundle), runtime.name))
    caller = subprocess.Popen(["sh", "-c", f"{command} & sleep 100"], preexec_fn=os.setsid)
    until(runtime.running)
    caller.kill()
    caller.wait()
    until(lambda: not (runtime.state / runtime.name).exists())
    runtime.nothing_left()
    os.killpg(caller.pid, signal.SIGKILL)


def test_terminal_has_the_size_of_the_caller(runtime):
    runtime.config["process"]["terminal"] = True
    # Terminals work even where the configuration allows no device at all.
    runtime.config["linux"]["resources"]["devices"] = [{"allow": False, "access": "rwm"}]
    runtime.write("sh", "-c", "tty; stty size; exit 5")
    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
        os.execv(runtime.program, runtime.command("run", "--bundle", str(runtime.bundle), runtime.name))
    output = b""
    try:
        while chunk := os.read(master, 4096):
            output += chunk
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert re.search(rb"/dev/pts/0\r\n", output) and b"31 97\r\n" in output


BAD = {
    "no bundle": (lambda r: shutil.rmtree(r.bundle), "bundle"),
    "no config": (lambda r: (r.bundle / "config.json").unlink(), "config.json"),
    "garbage": (lambda r: (r.bundle / "config.json").write_text("{"), "config.json:1"),
    "no root": (lambda r: r.config["root"].update(path="nowhere") or r.write("true"), "nowhere"),
    "bad mount": (lambda r: r.config["mounts"].append({"destination": "/x", "type": "nosuchfs"}) or r.write("true"), "nosuchfs"),
    "bad option": (lambda r: r.config["mounts"].append({"destination": "/x", "type": "tmpfs", "options": ["colour=red"]}) or r.write("true"), "colour"),
    "bind of nothing": (lambda r: r.config["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/where"}) or r.write("true"), "/no/where"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_bundles_are_named_and_leave_nothing(runtime, case):
    runtime.write("true")
    spoil, said = BAD[case]
    spoil(runtime)
    done = subprocess.run(runtime.command("run", "--bundle", str(runtime.bundle), runtime.name), text=True, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert said in done.stderr and done.stderr.count("\n") == 1
    runtime.nothing_left()
