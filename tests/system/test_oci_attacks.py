# SPDX-License-Identifier: Apache-2.0
"""Attacks on the container runtime: each is carried out against us, and must not get through. Programs that attack are in
attacks/. Every test also shows that its attack ran: one that never met the runtime proves nothing."""
import ctypes
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import need_command
from patience import PATIENCE_S, until
from test_oci import Runtime, rootfs, runtime  # noqa: F401 (fixtures)

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
SOURCES = Path(__file__).parent / "attacks"


def compile_attack(name, place, *options):
    subprocess.run([need_command("gcc"), "-O1", *(options or ("-static",)), "-o", place, SOURCES / f"{name}.c"], check=True)


@pytest.fixture(autouse=True)
def host_unharmed():
    """What most attacks aim at: a program of the attacker's that the host's kernel runs. Put right again, should one succeed."""
    before = CORE_PATTERN.read_text()
    yield
    after = CORE_PATTERN.read_text()
    if after != before:
        CORE_PATTERN.write_text(before)
    assert after == before


@pytest.fixture
def hostile(runtime, tmp_path):  # noqa: F811
    """A copy of the image that a test may spoil; the container uses it."""
    path = tmp_path / "hostile"
    shutil.copytree(runtime.rootfs, path, symlinks=True)
    runtime.config["root"] = {"path": str(path), "readonly": False}
    return path


class Running:
    """A container that runs `args` until the end of the block."""

    def __init__(self, runtime, *args, **options):
        self.runtime, self.options = runtime, options
        runtime.write(*args)

    def __enter__(self):
        with open(os.devnull, "r+") as null:
            options = {"stdin": null, "stdout": null, "stderr": null, **self.options}
            subprocess.run(self.runtime.command("run", "--detach", "--bundle", str(self.runtime.bundle), self.runtime.name),
                           check=True, timeout=PATIENCE_S, **options)
        return self

    def exec(self, *args, options=(), **more):
        return subprocess.run(self.runtime.command("exec", *options, self.runtime.name, *args), text=True, capture_output=True,
                              timeout=PATIENCE_S, **more)

    def __exit__(self, *_):
        subprocess.run(self.runtime.command("delete", "--force", self.runtime.name), check=True, timeout=PATIENCE_S)
        self.runtime.nothing_left()


# --- the runtime's own file

def test_the_runtime_cannot_be_overwritten_by_a_loader(runtime, hostile, tmp_path):  # noqa: F811
    """CVE-2019-5736: the image's program is /proc/self/exe, and its dynamic loader writes to that file."""
    headers = subprocess.run(["readelf", "-l", runtime.program], text=True, capture_output=True).stdout
    loader = re.search(r"interpreter: (\S+)\]", headers)
    if not loader:
        pytest.skip("the runtime is a static program: an image cannot take its loader's place (the sanitizer build's can)")
    compile_attack("overwrite", hostile / "bin" / "overwrite", "-ffreestanding", "-fno-stack-protector", "-fPIE", "-nostdlib", "-static-pie")
    place = hostile / loader.group(1).lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(hostile / "bin" / "overwrite", place)
    (hostile / "bin" / "attack").write_text("#!/proc/self/exe\n")
    (hostile / "bin" / "attack").chmod(0o755)
    # Ours alone: a file that another test executes could not be written to for that reason.
    runtime.program = shutil.copy(runtime.program, tmp_path / "lodge-oci")
    before = Path(runtime.program).read_bytes()
    for program in ("/proc/self/exe", "/bin/attack"):
        # Detached: a runtime that waits would itself execute the file, and nobody could write to it for that reason.
        with open(tmp_path / "said", "w+b") as out, Running(runtime, program, stdout=out):
            until(lambda: (tmp_path / "said").read_text().count("\n") == 2)
        assert (tmp_path / "said").read_text() == "here\nrefused 30\n"  # EROFS
    assert Path(runtime.program).read_bytes() == before


class Scan(Running):
    """scan_exe as a container's first process: as a further one, its own runtime would stay and execute the file."""

    def __init__(self, runtime, image, *args):
        compile_attack("scan_exe", image / "bin" / "scan_exe")
        super().__init__(runtime, "sh", "-c", " ".join(("exec", "/bin/scan_exe", *args, ">/out")))
        self.out = image / "out"

    def is_over(self):
        return self.out.exists() and "written" in self.out.read_text()

    def repeat(self, step):
        """As long as it looks; a step that its end has cut off may fail."""
        whole = 0
        while not self.is_over():
            done = step()
            assert done.returncode == 0 or self.is_over(), done.stderr
            whole += done.returncode == 0
        assert whole > 0

    def result(self):
        """caught, denied, written; and all that it said."""
        pattern = re.compile(r"caught (\d+) denied (\d+) written (\d+)\n")
        until(lambda: pattern.search(self.out.read_text()))
        said = self.out.read_text()
        return *map(int, pattern.search(said).groups()), said


@pytest.mark.parametrize("shebang", [False, True])
def test_the_runtime_cannot_be_overwritten_while_it_runs_inside(runtime, hostile, tmp_path, shebang):  # noqa: F811
    """The same against a static runtime: it is made to run in the container, waiting for a FIFO, and its file is taken from
    /proc meanwhile."""
    if "LODGE_SANITIZED" in os.environ:
        pytest.skip("the sanitizer build needs libraries that the image has not")
    # A file that nobody else executes: that alone would keep everybody from writing it.
    runtime.program = str(shutil.copy2(runtime.program, tmp_path / "lodge-oci"))
    os.mkfifo(hostile / "fifo")
    (hostile / "bin" / "attack").write_text("#!/proc/self/exe --log=/fifo\n")
    (hostile / "bin" / "attack").chmod(0o755)
    before = Path(runtime.program).read_bytes()
    with Scan(runtime, hostile, "1500", "/fifo") as scan:
        scan.exec(*(["/bin/attack"] if shebang else ["/proc/self/exe", "--log=/fifo", "nosuchverb"]))
        caught, _, written, said = scan.result()
    assert caught > 0, said  # the file was in the attacker's hand
    assert written == 0 and "Read-only file system" in said
    assert Path(runtime.program).read_bytes() == before


def test_a_joining_process_cannot_be_looked_into(runtime, hostile):  # noqa: F811
    """Between joining the container and executing its program, exec is a process of the container with the runtime's file
    and descriptors."""
    with Scan(runtime, hostile, "2500") as scan:
        scan.repeat(lambda: scan.exec("true"))
        caught, denied, written, said = scan.result()
    assert (caught, written) == (0, 0)
    assert denied > 0, said


def test_a_neighbour_in_the_pid_namespace_cannot_look_into_us(runtime, hostile, tmp_path):  # noqa: F811
    """A container that joins another's pid namespace is seen by that one while the runtime still builds it."""
    with Scan(runtime, hostile, "2500") as scan:
        pid = json.loads(subprocess.check_output(runtime.command("state", runtime.name)))["pid"]
        other = Runtime(runtime.program, runtime.rootfs, tmp_path / "other")
        other.config["process"]["capabilities"] = runtime.config["process"]["capabilities"]
        for namespace in other.config["linux"]["namespaces"]:
            if namespace["type"] == "pid":
                namespace["path"] = f"/proc/{pid}/ns/pid"
        scan.repeat(lambda: other.run("true", check=False))
        caught, denied, written, said = scan.result()
    assert (caught, written) == (0, 0)
    assert denied > 0, said


# --- descriptors and directories of the runtime

NUMBERS = range(3, 24)


@pytest.mark.parametrize("through", ["itself", "a symlink of the image"])
def test_a_working_directory_through_a_descriptor(runtime, hostile, through):  # noqa: F811
    """CVE-2024-21626: process.cwd is /proc/self/fd/N, a directory of the host."""
    for number in NUMBERS:
        cwd = f"/proc/self/fd/{number}"
        if through != "itself":
            link = hostile / f"link{number}"
            link.symlink_to(cwd)
            cwd = "/" + link.name
        runtime.config["process"]["cwd"] = cwd
        done = runtime.run("sh", "-c", "ls ../../../../etc/debian_version; pwd -P", check=False)
        assert done.returncode != 0 and "debian_version\n" not in done.stdout, cwd


def test_a_program_through_a_descriptor(runtime, hostile):  # noqa: F811
    """CVE-2024-21626, the other way round: the program is a file of the host, reached through a directory that the runtime
    has open. Its bundle and its state are ones that it does have."""
    shutil.copy(hostile / "bin" / "busybox", runtime.bundle / "echo")
    (hostile / "bin" / "attack").symlink_to("/proc/self/fd/3/echo")
    for number in NUMBERS:
        (hostile / "bin" / "attack").unlink()
        (hostile / "bin" / "attack").symlink_to(f"/proc/self/fd/{number}/echo")
        for program in (f"/proc/self/fd/{number}/echo", "/bin/attack"):
            done = runtime.run(program, "out of the container", check=False)
            assert done.returncode in (126, 127) and "out of" not in done.stdout, program


def test_exec_gets_nowhere_through_a_descriptor(runtime, hostile):  # noqa: F811
    shutil.copy(hostile / "bin" / "busybox", runtime.bundle / "echo")
    with Running(runtime, "sleep", "100") as box:
        for number in NUMBERS:
            path = f"/proc/self/fd/{number}"
            leaked = os.open(runtime.bundle, os.O_RDONLY)
            try:
                done = box.exec(f"{path}/echo", "out of the container", pass_fds=(leaked,))
                assert done.returncode != 0 and "out of" not in done.stdout, path
                done = box.exec("sh", "-c", "ls ../../../../etc/debian_version", options=("--cwd", path), pass_fds=(leaked,))
                assert done.returncode != 0 and "debian_version\n" not in done.stdout, path
            finally:
                os.close(leaked)


def test_no_descriptor_of_the_runtime_is_left_open(runtime):  # noqa: F811
    listed = runtime.run("sh", "-c", "ls -l /proc/self/fd").stdout
    inside = [line for line in listed.splitlines() if "->" in line]
    assert len(inside) <= 4 and not [line for line in inside if str(runtime.bundle) in line or "/run/" in line]


# --- the image

SYSTEM_LINKS = ["/", "/..", "/etc", "../../../../etc", "/proc/self/root/etc", "/proc", "self"]


@pytest.mark.parametrize("place", ["proc", "sys", "dev"])
@pytest.mark.parametrize("target", SYSTEM_LINKS)
def test_a_symlink_for_a_system_directory_is_refused(runtime, hostile, place, target):  # noqa: F811
    """CVE-2019-19921, CVE-2023-27561: /proc of the image is a symlink."""
    shutil.rmtree(hostile / place, ignore_errors=True)
    (hostile / place).symlink_to(target)
    before = sorted(os.listdir("/etc"))
    done = runtime.run("sh", "-c", "echo x >/proc/sys/kernel/core_pattern; cat /proc/self/status", check=False)
    assert done.returncode == 1 and f"/{place}" in done.stderr
    assert sorted(os.listdir("/etc")) == before
    runtime.nothing_left()


@pytest.mark.parametrize("target", ["{host}", "../../../../../../../..{host}", "/proc/self/root{host}", "/proc/1/root{host}", "..", "/"])
@pytest.mark.parametrize("mount", ["tmpfs", "bind", "file"])
def test_a_symlink_at_a_mount_destination_stays_inside(runtime, hostile, tmp_path, target, mount):  # noqa: F811
    """CVE-2024-45310 and the like: what is made for a mount is made inside, whatever stands in its way."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (hostile / "way").symlink_to(target.format(host=victim))
    (hostile / "dangling").symlink_to(str(victim / "made"))
    entry = {"tmpfs": {"type": "tmpfs", "source": "tmpfs"}, "bind": {"type": "bind", "source": "/usr", "options": ["bind"]},
             "file": {"type": "bind", "source": "/etc/hostname", "options": ["bind"]}}[mount]
    for destination in ("/way/new/mount", "/way/..", "/dangling", "/dangling/more", "/way"):
        runtime.config["mounts"] = [m for m in runtime.config["mounts"] if m["destination"].startswith(("/proc", "/dev", "/sys"))]
        runtime.config["mounts"].append({"destination": destination, **entry})
        runtime.run("true", check=False)
        assert list(victim.iterdir()) == []
    runtime.nothing_left()


def test_a_false_null_device_masks_nothing_else(runtime, hostile):  # noqa: F811
    """CVE-2025-31133: /dev/null of the image is a symlink to what shall be written."""
    shutil.rmtree(hostile / "dev", ignore_errors=True)
    (hostile / "dev").mkdir()
    (hostile / "dev" / "null").symlink_to("/proc/sys/kernel/core_pattern")
    runtime.config["mounts"] = [m for m in runtime.config["mounts"] if not m["destination"].startswith("/dev")]
    done = runtime.run("sh", "-c", "stat -c '%F %t,%T' /proc/kcore; { echo x >/proc/sys/kernel/core_pattern; } 2>&1; true", check=False)
    if done.returncode == 0:
        assert done.stdout.startswith("character special file 1,3") and "Read-only" in done.stdout
    runtime.nothing_left()


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc", "/nowhere"])
def test_a_console_that_is_a_symlink_is_refused(runtime, hostile, target):  # noqa: F811
    """CVE-2025-52565: the terminal is mounted where the image says."""
    (hostile / "dev" / "pts").mkdir(parents=True)
    (hostile / "dev" / "console").symlink_to(target)
    runtime.config["mounts"] = [m for m in runtime.config["mounts"] if m["destination"] not in ("/dev", "/dev/shm", "/dev/mqueue")]
    runtime.config["process"]["terminal"] = True
    done = runtime.run("sh", "-c", "echo started", check=False)
    assert done.returncode == 1 and "/dev/console" in done.stderr and "started" not in done.stdout
    runtime.nothing_left()


@pytest.mark.parametrize("kind", ["file", "fifo", "symlink", "device"])
def test_a_terminal_that_the_image_brings_is_not_opened(runtime, hostile, kind):  # noqa: F811
    """Opening can be an act: /dev/pts/ptmx of the image is a watchdog, a FIFO, another terminal."""
    ptmx = hostile / "dev" / "pts" / "ptmx"
    ptmx.parent.mkdir(parents=True)
    {"file": ptmx.touch, "fifo": lambda: os.mkfifo(ptmx), "symlink": lambda: ptmx.symlink_to("/dev/ptmx"),
     "device": lambda: os.mknod(ptmx, 0o20666, os.makedev(10, 130))}[kind]()
    runtime.config["mounts"] = [m for m in runtime.config["mounts"] if not m["destination"].startswith("/dev")]
    runtime.config["process"]["terminal"] = True
    done = runtime.run("sh", "-c", "echo started", check=False)
    assert done.returncode == 1 and "devpts" in done.stderr and "started" not in done.stdout
    runtime.nothing_left()


@pytest.mark.parametrize("kind", ["fifo", "zero", "through a descriptor", "huge", "garbage"])
def test_a_false_user_list_holds_nobody_up(runtime, hostile, kind):  # noqa: F811
    (hostile / "etc").mkdir(exist_ok=True)
    path = hostile / "etc" / "passwd"
    (runtime.bundle / "passwd").write_text("x:x:77:77::/home/of/the/host:\n")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "through a descriptor":
        path.symlink_to("/proc/self/fd/3/passwd")
    else:
        path.write_bytes(b"x:" * (8 << 20) if kind == "huge" else bytes(range(256)) * 64)
    runtime.config["process"]["user"] = {"uid": 77, "gid": 77}
    runtime.config["process"]["env"] = ["PATH=/bin"]
    assert runtime.run("sh", "-c", "echo $HOME").stdout == "/\n"


# --- races over a directory that is shared

class Swap:
    """swap, at work until the end of the block."""

    def __init__(self, place, *args):
        compile_attack("swap", place / "swap")
        self.command = [place / "swap", *args]

    def __enter__(self):
        self.child = subprocess.Popen(self.command)
        return self

    def __exit__(self, *_):
        ended = self.child.poll()
        self.child.kill()
        self.child.wait()
        assert ended is None, "the attack ended by itself"


def test_proc_is_exchanged_while_a_container_starts(runtime, hostile, tmp_path):  # noqa: F811
    """CVE-2019-19921: who shares the root moves /proc away between its mount and the masks."""
    for name in ("proc", "decoy"):
        (hostile / name).mkdir(exist_ok=True)
    script = "for d in /proc /decoy; do test -e $d/self/status && stat -c '%F' $d/timer_list; done; { echo x >/proc/sys/kernel/core_pattern; } 2>/dev/null && echo breach; true"
    seen = set()
    with Swap(tmp_path, "exchange", hostile / "proc", hostile / "decoy"):
        for _ in range(60):
            done = runtime.run("sh", "-c", script, check=False)
            if done.returncode == 0:
                assert set(done.stdout.splitlines()) <= {"character special file"}
            seen.add(done.returncode)
    assert 1 in seen, "the race was never met"
    runtime.nothing_left()


def test_a_shared_volume_is_exchanged_for_a_symlink(runtime, hostile, tmp_path):  # noqa: F811
    """CVE-2021-30465, CVE-2024-45310: a mount's destination in a shared volume changes between directory and symlink."""
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    (shared / "a").mkdir(parents=True)
    victim.mkdir()
    (shared / "b").symlink_to(victim)
    (hostile / "vol").mkdir()
    runtime.config["mounts"] += [{"destination": "/vol", "type": "bind", "source": str(shared), "options": ["rbind"]},
                                 {"destination": "/vol/a/made/deep", "type": "tmpfs", "source": "tmpfs", "options": []},
                                 {"destination": "/vol/a/file", "type": "bind", "source": "/etc/hostname", "options": ["bind"]},
                                 {"destination": "/vol/a", "type": "tmpfs", "source": "tmpfs", "options": []}]
    good = 0
    with Swap(tmp_path, "exchange", shared / "a", shared / "b"):
        for _ in range(60):
            done = runtime.run("sh", "-c", "ls /; cut -d' ' -f5 /proc/self/mountinfo", check=False)
            good += done.returncode == 0
            assert list(victim.iterdir()) == []
            assert str(tmp_path) not in done.stdout
    assert good > 0
    runtime.nothing_left()


@pytest.mark.parametrize("name", ["null", "tty", "extra"])
def test_a_device_is_exchanged_for_a_symlink_when_it_is_made(runtime, hostile, tmp_path, name):  # noqa: F811
    """A mode or an owner that is given by name would be given to a file of the host."""
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    victim.write_text("secret")
    victim.chmod(0o600)
    runtime.config["mounts"] = [m for m in runtime.config["mounts"] if not m["destination"].startswith("/dev")]
    runtime.config["mounts"].append({"destination": "/dev", "type": "bind", "source": str(shared), "options": ["bind"]})
    runtime.config["linux"]["devices"] = [{"path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 77, "gid": 77}]
    with Swap(tmp_path, "replace", shared / name, victim):
        for _ in range(120):
            for path in shared.iterdir():
                if path.name != name:
                    path.unlink(missing_ok=True)
            runtime.run("true", check=False)
            assert (victim.stat().st_mode & 0o777, victim.stat().st_uid) == (0o600, 0)
    runtime.nothing_left()


# --- what the kernel is told through files

def test_procfs_writes_cannot_be_redirected(runtime):  # noqa: F811
    """CVE-2025-52881: another file system stands where the sysctl is written."""
    runtime.config["mounts"].append({"destination": "/proc/sys/kernel", "type": "tmpfs", "source": "tmpfs"})
    runtime.config["linux"]["sysctl"] = {"kernel.msgmax": "1"}
    done = runtime.run("true", check=False)
    assert done.returncode == 1 and "kernel.msgmax" in done.stderr
    runtime.nothing_left()


def test_a_sysctl_is_not_written_to_another_one(runtime):  # noqa: F811
    """The same with procfs itself: a bind puts one parameter in the place of another."""
    runtime.config["mounts"].append({"destination": "/proc/sys/kernel/msgmax", "type": "bind", "source": "/proc/sys/kernel/core_pattern",
                                     "options": ["bind"]})
    runtime.config["linux"]["sysctl"] = {"kernel.msgmax": "9999"}
    done = runtime.run("true", check=False)
    assert done.returncode == 1 and "kernel.msgmax" in done.stderr
    runtime.nothing_left()


@pytest.mark.parametrize("kind", ["tmpfs", "volume"])
def test_a_false_proc_swallows_no_setting(runtime, hostile, tmp_path, kind):  # noqa: F811
    """CVE-2019-16884: a volume over /proc, with files of the expected names."""
    false = tmp_path / "proc"
    (false / "self" / "attr").mkdir(parents=True)
    for name in ("oom_score_adj", "setgroups", "attr/exec", "uid_map"):
        (false / "self" / name).write_text("deny\n")
    runtime.config["mounts"] = [m for m in runtime.config["mounts"] if m["destination"] != "/proc"]
    runtime.config["mounts"].insert(0, {"destination": "/proc", "type": "tmpfs", "source": "tmpfs"} if kind == "tmpfs" else
                                    {"destination": "/proc", "type": "bind", "source": str(false), "options": ["rbind"]})
    runtime.config["process"]["oomScoreAdj"] = 456
    with Running(runtime, "sleep", "100") as box:
        pid = json.loads(subprocess.check_output(runtime.command("state", runtime.name)))["pid"]
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "456\n"
        further = subprocess.Popen(runtime.command("exec", "--pid-file", tmp_path / "pid", runtime.name, "sleep", "5"))
        until(lambda: (tmp_path / "pid").exists())
        assert Path(f"/proc/{(tmp_path / 'pid').read_text()}/oom_score_adj").read_text() == "456\n"
        further.kill()
        further.wait()
        assert box.exec("true").returncode == 0
    assert (false / "self" / "oom_score_adj").read_text() == "deny\n"


CGROUP_ESCAPE = """
for d in /sys/fs/cgroup /sys/fs/cgroup/*; do
    mkdir $d/escape && echo breach
    for f in release_agent notify_on_release cgroup.procs tasks devices.allow memory.limit_in_bytes cgroup.subtree_control; do
        test -e $d/$f && { { echo 1 >$d/$f; } && echo breach $d/$f; }
    done
done
mkdir /cg
mount -t cgroup -o memory cgroup /cg && echo breach mount
mount -t cgroup2 cgroup /cg && echo breach mount
mount -o remount,rw /sys/fs/cgroup && echo breach remount
mount -t tmpfs tmpfs /cg && echo breach tmpfs
echo done
"""


@pytest.mark.parametrize("own_namespace", [True, False])
def test_the_cgroup_is_no_way_out(runtime, hostile, own_namespace):  # noqa: F811
    """release_agent, and CVE-2023-25809: nothing below /sys/fs/cgroup can be written, with or without a cgroup namespace."""
    if not own_namespace:
        runtime.config["linux"]["namespaces"] = [n for n in runtime.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    runtime.config["process"]["capabilities"] = {k: ["CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_MKNOD"]
                                                 for k in ("bounding", "effective", "permitted")}
    done = runtime.run("sh", "-c", CGROUP_ESCAPE)
    assert done.stdout == "done\n"
    runtime.nothing_left()


def test_the_cgroup_is_no_way_out_of_a_user_namespace(runtime, hostile):  # noqa: F811
    """All capabilities inside: the mount can be made writable, the host's files behind it still belong to others."""
    runtime.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        runtime.config["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    names = [f"CAP_{name}" for name in ("SYS_ADMIN", "DAC_OVERRIDE", "CHOWN", "FOWNER")]
    runtime.config["process"]["capabilities"] = {k: names for k in ("bounding", "effective", "permitted")}
    runtime.config["root"]["path"] = str(runtime.rootfs)
    done = runtime.run("sh", "-c", "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,rw,bind $d; mkdir $d/escape && echo breach; "
                                   "for f in release_agent notify_on_release cgroup.procs devices.allow; do test -e $d/$f && "
                                   "{ { echo 1 >$d/$f; } && echo breach $f; }; done; done; echo done")
    assert [line for line in done.stdout.splitlines() if "breach " in line] == []
    runtime.nothing_left()


# --- who the program is

def with_inheritable():
    """All capabilities inheritable and ambient, as an unlucky caller may have them (CVE-2022-27650, CVE-2022-29162)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.syscall(125, header, data) == 0  # capget
    data[2], data[5] = data[1], data[4]
    assert libc.syscall(126, header, data) == 0  # capset
    for number in range(41):
        libc.prctl(47, 2, number, 0, 0)  # PR_CAP_AMBIENT_RAISE


@pytest.mark.parametrize("uid", [0, 77])
def test_no_capability_is_inherited_from_the_caller(runtime, hostile, uid):  # noqa: F811
    runtime.config["process"]["user"] = {"uid": uid, "gid": uid}
    for name in ("inheritable", "ambient"):
        runtime.config["process"]["capabilities"].pop(name, None)
    script = "grep -E 'CapInh|CapAmb' /proc/self/status"
    done = runtime.run("sh", "-c", script, preexec_fn=with_inheritable)
    assert [int(line.split()[1], 16) for line in done.stdout.splitlines()] == [0, 0]
    runtime.config["process"]["user"] = {"uid": 0, "gid": 0}
    with Running(runtime, "sleep", "100") as box:
        done = box.exec("sh", "-c", script, options=("--user", str(uid), "--cap", "CAP_NET_RAW"), preexec_fn=with_inheritable)
    assert [int(line.split()[1], 16) for line in done.stdout.splitlines()] == [0, 0]


def test_no_word_of_capabilities_means_none(runtime, hostile):  # noqa: F811
    del runtime.config["process"]["capabilities"]
    script = "grep ^Cap /proc/self/status"
    assert {int(line.split()[1], 16) for line in runtime.as_runc(script).splitlines()} == {0}


@pytest.mark.parametrize("user", ["", "root", "0x0", "-1", "4294967295", "4294967296", "1:", ":1", "1:2:3", " 1", "1 ", "+1", "1.0", "1:root",
                                  "1e1", "010", "00", "١", "1\n", "0:-1", "99999999999999999999", "1,2"])
def test_a_user_that_is_no_number_is_refused(runtime, hostile, user):  # noqa: F811
    """A name or a number out of range that ends up as uid 0."""
    with Running(runtime, "sleep", "100") as box:
        done = box.exec("id", "-u", options=("--user", user))
        assert done.returncode != 0 and done.stdout == "", done.stdout
        assert "--user" in done.stderr
