# SPDX-License-Identifier: Apache-2.0
"""What each member of config.json does, compared with runc on the same bundle wherever it supports the member."""
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from conftest import need_command
from patience import PATIENCE_S, until
from test_oci import rootfs, runtime  # noqa: F401 (fixtures)


def refused(runtime, *said):
    done = runtime.run("true", check=False)
    assert done.returncode == 1, done.stderr
    for text in said:
        assert text in done.stderr
    runtime.nothing_left()


# --- seccomp

def profile(*rules, default="SCMP_ACT_ALLOW", **more):
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": list(rules), **more}


def system_calls():
    """Names that this machine's C library knows: what a Docker-like profile would allow."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("needs the kernel's headers (asm/unistd_64.h)")
    return re.findall(r"#define __NR_(\w+)", header.read_text())


DENY_MKDIR = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 39}
PROFILES = {
    "errno": (profile(DENY_MKDIR), "mkdir /tmp-x 2>&1; echo $?"),
    "errno is EPERM when absent": (profile({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}), "mkdir /tmp-x 2>&1"),
    "kill the thread": (profile({"names": ["mkdir"], "action": "SCMP_ACT_KILL"}), "mkdir /tmp-x; echo $?"),
    "kill the process": (profile({"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"}), "mkdir /tmp-x; echo $?"),
    "trap": (profile({"names": ["mkdir"], "action": "SCMP_ACT_TRAP"}), "mkdir /tmp-x; echo $?"),
    "log goes on": (profile({"names": ["getppid"], "action": "SCMP_ACT_LOG"}), "sh -c 'echo ok'"),
    "unknown names are skipped": (profile({"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO"}), "mkdir /tmp-x 2>&1"),
    "an argument's value": (profile({"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                                     "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}),
                            "trap 'echo two' USR2; kill -USR1 $$ 2>&1; kill -USR2 $$; echo $?"),
    "one argument twice: either": (profile({"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                                            "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"},
                                                     {"index": 1, "value": 12, "op": "SCMP_CMP_EQ"}]}),
                                   "kill -USR1 $$ 2>&1; kill -USR2 $$ 2>&1; kill -0 $$; echo $?"),
    "both of two arguments": (profile({"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                                       "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                                                {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]}),
                              "kill -0 1 2>&1; kill -CONT 1; echo $?"),
    "masked": (profile({"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                        "args": [{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]}),
               "kill -USR1 $$ 2>&1; kill -0 $$; echo $?"),
    "a rule that says the default": (profile({"names": ["mkdir"], "action": "SCMP_ACT_ALLOW"}), "mkdir -p /bin; echo $?"),
}


@pytest.mark.parametrize("new_privileges", [True, False])
@pytest.mark.parametrize("case", PROFILES)
def test_seccomp_as_runc(runtime, case, new_privileges):
    rules, script = PROFILES[case]
    runtime.config["linux"]["seccomp"] = rules
    runtime.config["process"]["noNewPrivileges"] = not new_privileges
    runtime.as_runc(script, check=False)


def test_seccomp_flags_are_taken(runtime):
    runtime.config["linux"]["seccomp"] = profile(DENY_MKDIR, flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                                                    "SECCOMP_FILTER_FLAG_TSYNC"])
    assert "not empty" in runtime.run("sh", "-c", "mkdir /tmp-x 2>&1; true").stdout


@pytest.mark.parametrize("new_privileges", [True, False])
def test_seccomp_of_hundreds_of_names(runtime, new_privileges):
    names = [n for n in system_calls() if n not in ("mkdir", "mkdirat")]
    runtime.config["linux"]["seccomp"] = profile({"names": names, "action": "SCMP_ACT_ALLOW"}, default="SCMP_ACT_ERRNO")
    runtime.config["process"]["noNewPrivileges"] = not new_privileges
    said = runtime.as_runc("grep '^Seccomp:' /proc/self/status; mkdir /tmp-x 2>&1; echo $?")
    assert "Seccomp:\t2" in said and "not permitted" in said


def test_seccomp_unknown_newer_calls_do_not_exist(runtime, rootfs, tmp_path):
    """A C library falls back to older calls only when the newer one says ENOSYS."""
    compiler = need_command("gcc")
    source = tmp_path / "newer.c"
    source.write_text("#include <errno.h>\n#include <stdio.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n"
                      "int main(void) { syscall(4000); printf(\"%d\\n\", errno); syscall(SYS_mkdir, \"/x\", 0); printf(\"%d\\n\", errno); }\n")
    subprocess.run([compiler, "-static", "-o", rootfs / "bin" / "newer", source], check=True)
    names = [n for n in system_calls() if n != "mkdir"]
    runtime.config["linux"]["seccomp"] = profile({"names": names, "action": "SCMP_ACT_ALLOW"}, default="SCMP_ACT_ERRNO")
    assert runtime.as_runc("newer") == "38\n1\n"


def test_seccomp_cache_is_used_and_never_trusted_from_others(runtime):
    runtime.config["linux"]["seccomp"] = profile(DENY_MKDIR)

    def denied():
        return "not empty" in runtime.run("sh", "-c", "mkdir /tmp-x 2>&1; true").stdout

    assert denied()
    cache = runtime.state / ".seccomp"
    (entry,) = cache.iterdir()
    before = entry.stat().st_ino
    assert denied() and entry.stat().st_ino == before  # served from the file
    # A filter that allows everything, planted by another user: refused, made anew.
    planted = bytearray(entry.read_bytes())
    planted[-8 * int.from_bytes(planted[16:24], "little"):] = (b"\x06\0\0\0\0\0\xff\x7f" * int.from_bytes(planted[16:24], "little"))
    entry.write_bytes(planted)
    os.chown(entry, 1000, 1000)
    assert denied()
    # Writable for others, a symlink, cut short, or of another profile: the same.
    entry.write_bytes(planted)
    entry.chmod(0o666)
    assert denied()
    entry.unlink()
    (runtime.state / "planted").write_bytes(planted)
    entry.symlink_to("../planted")
    assert denied()
    entry.unlink()
    entry.write_bytes(planted[:40])
    assert denied()
    planted[40] ^= 1
    entry.write_bytes(planted)
    assert denied()
    cache.chmod(0o777)
    entry.write_bytes(planted)
    assert denied()


@pytest.mark.parametrize("new_privileges", [True, False])
def test_seccomp_holds_for_exec(runtime, new_privileges):
    runtime.config["linux"]["seccomp"] = profile(DENY_MKDIR)
    runtime.config["process"]["noNewPrivileges"] = not new_privileges
    runtime.write("sleep", "100")
    with open(os.devnull, "w") as null:
        subprocess.run(runtime.command("run", "-d", "--bundle", str(runtime.bundle), runtime.name), check=True, stdout=null, stderr=null)
    done = subprocess.run(runtime.command("exec", runtime.name, "sh", "-c", "grep ^Seccomp: /proc/self/status; mkdir /x"),
                          text=True, capture_output=True, timeout=PATIENCE_S)
    subprocess.run(runtime.command("delete", "--force", runtime.name), check=True)
    assert done.stdout == "Seccomp:\t2\n" and "not empty" in done.stderr


class Agent(threading.Thread):
    """Answers each system call that the filter asks about with success and the value 0."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.message = None
        self.said = threading.Event()
        self.start()

    def run(self):
        connection, _ = self.socket.accept()
        data, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        self.message = json.loads(data)
        self.said.set()
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        while True:
            request, reply = ctypes.create_string_buffer(80), ctypes.create_string_buffer(24)
            if libc.ioctl(fds[0], ctypes.c_ulong(0xC0502100), request) < 0:
                return
            reply[0:8] = request[0:8]
            libc.ioctl(fds[0], ctypes.c_ulong(0xC0182101), reply)


@pytest.mark.parametrize("new_privileges", [True, False])
@pytest.mark.parametrize("verbs", ["run", "create"])
def test_seccomp_listener(runtime, tmp_path, verbs, new_privileges):
    agent = Agent(tmp_path / "agent")
    runtime.config["process"]["noNewPrivileges"] = not new_privileges
    # The message that tells the runtime of a failure is a sendmsg itself: it must not be needed.
    runtime.config["linux"]["seccomp"] = profile({"names": ["mkdir", "sendmsg"], "action": "SCMP_ACT_NOTIFY"},
                                                 listenerPath=str(tmp_path / "agent"), listenerMetadata="about it")
    script = "mkdir /nowhere/at/all && echo answered"
    if verbs == "run":
        assert runtime.run("sh", "-c", script).stdout == "answered\n"
    else:
        runtime.write("sh", "-c", script)
        with open(tmp_path / "out", "wb") as out:
            subprocess.run(runtime.command("create", "--bundle", str(runtime.bundle), runtime.name), check=True, stdout=out, timeout=PATIENCE_S)
        assert agent.said.wait(PATIENCE_S)
        subprocess.run(runtime.command("start", runtime.name), check=True, timeout=PATIENCE_S)
        until(lambda: (tmp_path / "out").read_text() == "answered\n")
        subprocess.run(runtime.command("delete", "--force", runtime.name), check=True)
    assert agent.said.wait(PATIENCE_S)
    message = agent.message
    assert message["fds"] == ["seccompFd"] and message["metadata"] == "about it" and message["pid"] > 0
    assert message["state"]["id"] == runtime.name and message["state"]["status"] == "creating"
    assert message["state"]["pid"] == message["pid"] and message["state"]["bundle"] == str(runtime.bundle)
    runtime.nothing_left()


BAD_PROFILES = {
    "default action": ({"defaultAction": "SCMP_ACT_MAYBE"}, "SCMP_ACT_MAYBE"),
    "action": (profile({"names": ["mkdir"], "action": "odd"}), "syscalls[0].action"),
    "architecture": ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}, "PDP11"),
    "flag": (profile(flags=["SECCOMP_FILTER_FLAG_X"]), "SECCOMP_FILTER_FLAG_X"),
    "comparison": (profile({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "<"}]}), "args[0].op"),
    "argument": (profile({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}), "0 to 5"),
    "errno": (profile({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}), "5000"),
    "notify by default": (profile(default="SCMP_ACT_NOTIFY", listenerPath="/x"), "defaultAction"),
    "notify nobody": (profile({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}), "listenerPath"),
    "no listener there": (profile({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}, listenerPath="/no/where"), "/no/where"),
}


@pytest.mark.parametrize("case", BAD_PROFILES)
def test_bad_seccomp_profiles_are_named(runtime, case):
    rules, said = BAD_PROFILES[case]
    runtime.config["linux"]["seccomp"] = rules
    refused(runtime, said)


# --- hooks

KINDS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


@pytest.fixture
def hooked(runtime, tmp_path):
    """Every hook notes its name, its namespaces and the state it read."""
    out = tmp_path / "notes"
    out.mkdir()
    out.chmod(0o777)
    runtime.config["mounts"].append({"destination": str(out), "type": "bind", "source": str(out), "options": ["bind"]})
    script = (f'echo "$1 $NAME $(readlink /proc/self/ns/mnt) $(cat)" >>{out}/log; test -e /etc/debian_version && echo host >>{out}/$1; exit $2')
    runtime.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script, "hook", kind, "0"], "env": [f"NAME={kind}-env"]}]
                               for kind in KINDS}
    runtime.notes = out
    return runtime


def notes(runtime):
    found = {}
    for line in (runtime.notes / "log").read_text().splitlines():
        kind, name, namespace, state = line.split(" ", 3)
        found[kind] = (name, namespace, json.loads(state))
    return found


def test_hooks_run_in_order_where_and_with_what_they_should(hooked):
    hooked.run("sh", "-c", f"readlink /proc/self/ns/mnt >{hooked.notes}/inside")
    found = notes(hooked)
    inside = (hooked.notes / "inside").read_text().strip()
    assert list(found) == KINDS
    for kind, (name, namespace, state) in found.items():
        assert name == kind + "-env"
        assert state["id"] == hooked.name and state["bundle"] == str(hooked.bundle) and state["ociVersion"]
        in_container = kind in ("createContainer", "startContainer")
        assert (namespace == inside) == in_container
        # createContainer still has the runtime's root; startContainer the container's.
        assert (hooked.notes / kind).exists() == (kind != "startContainer")
    status = {kind: state["status"] for kind, (_, _, state) in found.items()}
    assert status == {"prestart": "creating", "createRuntime": "creating", "createContainer": "creating",
                      "startContainer": "created", "poststart": "running", "poststop": "stopped"}
    assert found["createRuntime"][2]["pid"] > 1 and found["startContainer"][2]["pid"] == 1 and "pid" not in found["poststop"][2]


def test_hooks_begin_in_the_working_directory_of_the_runtime(hooked):
    hooked.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"pwd >{hooked.notes}/{kind}"]}] for kind in KINDS[:3]}
    hooked.write("true")
    subprocess.run(hooked.command("run", "--bundle", str(hooked.bundle), hooked.name), check=True, cwd="/usr/share")
    assert {(hooked.notes / kind).read_text() for kind in KINDS[:3]} == {"/usr/share\n"}


def test_hooks_by_the_single_verbs(hooked):
    hooked.write("sleep", "100")
    with open(os.devnull, "w") as null:
        subprocess.run(hooked.command("create", "--bundle", str(hooked.bundle), hooked.name), check=True, stdout=null, stderr=null)
    assert list(notes(hooked)) == KINDS[:3]
    (hooked.bundle / "config.json").unlink()  # the container keeps what it needs
    subprocess.run(hooked.command("start", hooked.name), check=True)
    assert set(notes(hooked)) == set(KINDS[:5])
    subprocess.run(hooked.command("delete", "--force", hooked.name), check=True)
    assert list(notes(hooked))[-1] == "poststop"
    hooked.nothing_left()


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_failed_hook_ends_the_container(hooked, kind):
    hooked.config["hooks"][kind].insert(0, {"path": "/bin/sh", "args": ["sh", "-c", "echo the reason >&2; exit 3"]})
    done = hooked.run("sh", "-c", f"echo >{hooked.notes}/started", check=False)
    assert done.returncode == 1 and kind in done.stderr and "exit status 3: the reason" in done.stderr
    assert not (hooked.notes / "started").exists()
    assert kind not in notes(hooked) and list(notes(hooked))[-1] == "poststop"
    hooked.nothing_left()


@pytest.mark.parametrize("kind", KINDS[4:])
def test_failures_of_late_hooks_are_only_warned_of(hooked, kind):
    hooked.config["hooks"][kind].insert(0, {"path": "/bin/false"})
    done = hooked.run("true")
    assert "warning" in done.stderr and kind in done.stderr
    assert kind in notes(hooked)


def test_a_hook_is_ended_at_its_timeout(hooked):
    hooked.config["hooks"]["createRuntime"].insert(0, {"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1})
    done = hooked.run("true", check=False)
    assert done.returncode == 1 and "within 1 s" in done.stderr
    hooked.nothing_left()


def test_hooks_have_no_descriptor_of_ours(hooked):
    hooked.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"ls /proc/$$/fd >{hooked.notes}/{kind}; true"], "env": ["PATH=/bin:/usr/bin"]}]
                              for kind in KINDS}
    hooked.run("true")
    for kind in KINDS:
        assert set((hooked.notes / kind).read_text().split()) <= {"0", "1", "2", "10", "255"}


@pytest.mark.parametrize("hook, said", [
    ({"path": "relative"}, "absolute"), ({"path": "/bin/true", "timeout": 0}, "timeout"), ({"args": ["x"]}, "path"),
    ({"path": "/bin/true", "timeout": -1}, "timeout"), ({"path": "/bin/true", "env": [1]}, "env[0]")])
def test_bad_hooks_are_named(runtime, hook, said):
    runtime.config["hooks"] = {"createRuntime": [hook]}
    refused(runtime, "hooks.createRuntime[0]", said)


def test_a_program_may_have_fewer_descriptors_than_its_start_takes(runtime):
    runtime.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4},
                                            {"type": "RLIMIT_FSIZE", "soft": 100, "hard": 100}]
    assert runtime.run("sh", "-c", "ulimit -n").stdout == "4\n"


# --- resources

def v1():
    if not Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists():
        pytest.skip("needs cgroup version 1")


RESOURCES = {
    "kernelTCP": ({"memory": {"kernelTCP": 8 << 20}}, "memory/memory.kmem.tcp.limit_in_bytes"),
    "swappiness": ({"memory": {"swappiness": 17}}, "memory/memory.swappiness"),
    "no OOM killer": ({"memory": {"limit": 64 << 20, "disableOOMKiller": True}}, "memory/memory.oom_control"),
    "reservation": ({"memory": {"limit": 64 << 20, "reservation": 32 << 20}}, "memory/memory.soft_limit_in_bytes"),
    "burst": ({"cpu": {"quota": 50000, "period": 100000, "burst": 20000}}, "cpu/cpu.cfs_burst_us"),
    "idle": ({"cpu": {"idle": 1}}, "cpu/cpu.idle"),
    "cpuset": ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset/cpuset.cpus"),
    "weight": ({"blockIO": {"weight": 250}}, "blkio/blkio.bfq.weight"),
}
NEWER_THAN_RUNC = {"burst": "20000", "idle": "1", "kernelTCP": str(8 << 20), "weight": "250"}


@pytest.mark.parametrize("case", RESOURCES)
def test_resources_reach_the_kernel(runtime, case):
    v1()
    resources, file = RESOURCES[case]
    runtime.config["linux"]["resources"].update(resources)
    script = f"cat /sys/fs/cgroup/{file}"
    if case == "weight" and not list(Path("/sys/fs/cgroup/blkio").glob("*/blkio.bfq.weight")):
        refused(runtime, "blkio.bfq.weight")
    elif case in NEWER_THAN_RUNC:
        assert runtime.run("sh", "-c", script).stdout.strip() == NEWER_THAN_RUNC[case]
    else:
        runtime.as_runc(script)


@pytest.mark.parametrize("given", ["0", ""])
def test_a_cpuset_above_stays_as_it_was_set(runtime, given):
    v1()
    above = Path("/sys/fs/cgroup/cpuset", runtime.name + "-above")
    above.mkdir()
    try:
        if given:
            for file in ("cpuset.cpus", "cpuset.mems"):
                (above / file).write_text(given)
        runtime.config["linux"]["cgroupsPath"] = f"/{above.name}/{runtime.name}"
        inside = runtime.run("cat", "/sys/fs/cgroup/cpuset/cpuset.cpus").stdout.strip()
        now = (above / "cpuset.cpus").read_text().strip()
    finally:
        for hierarchy in Path("/sys/fs/cgroup").iterdir():
            if (hierarchy / above.name).is_dir():
                (hierarchy / above.name).rmdir()
    assert inside == now == (given or Path("/sys/fs/cgroup/cpuset/cpuset.cpus").read_text().strip())


THROTTLES = ["throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"]


def test_block_throttles_as_runc(runtime):
    v1()
    device = os.stat("/").st_dev
    disk = {"major": os.major(device), "minor": os.minor(device)}
    if not Path(f"/sys/dev/block/{disk['major']}:{disk['minor']}").exists():
        pytest.skip("needs a block device under /")
    runtime.config["linux"]["resources"]["blockIO"] = {name: [{**disk, "rate": 1000000 + i}] for i, name in enumerate(THROTTLES)}
    assert "1000003" in runtime.as_runc("cd /sys/fs/cgroup/blkio; cat blkio.throttle.*_device")


BAD_RESOURCES = {
    "swappiness": ({"memory": {"swappiness": 101}}, "swappiness"),
    "idle": ({"cpu": {"idle": 2}}, "cpu.idle"),
    "page size": ({"hugepageLimits": [{"pageSize": "../../x", "limit": 1}]}, "pageSize"),
    "huge pages without controller": ({"hugepageLimits": [{"pageSize": "3MB", "limit": 4 << 20}]}, "hugetlb.3MB.limit_in_bytes"),
    "class without controller": ({"network": {"classID": 7}}, "net_cls.classid"),
    "priorities without controller": ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, "net_prio.ifpriomap"),
    "rdma without controller": ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, "rdma.max"),
    "leaf weight": ({"blockIO": {"leafWeight": 10}}, "leafWeight"),
    "unified on v1": ({"unified": {"memory.high": "1"}}, "unified"),
    "throttle of nothing": ({"blockIO": {"throttleReadBpsDevice": [{"major": 1, "rate": 1}]}}, "minor"),
}


@pytest.mark.parametrize("case", BAD_RESOURCES)
def test_resources_that_cannot_be_are_named(runtime, case):
    v1()
    resources, said = BAD_RESOURCES[case]
    runtime.config["linux"]["resources"].update(resources)
    refused(runtime, said)


def test_device_rules_without_a_first_denial_still_deny(runtime):
    runtime.config["linux"]["resources"]["devices"] = [{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]
    runtime.config["linux"]["devices"] = [{"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237}]
    assert "not permitted" in runtime.as_runc("echo >/dev/null && cat /dev/loop-control 2>&1; echo $?")


# --- process

@pytest.mark.parametrize("soft, hard", [(64, 2 ** 64 - 1), (2 ** 64 - 1, 2 ** 64 - 1)])
def test_rlimits_of_64_bits(runtime, soft, hard):
    runtime.config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": soft, "hard": hard}]
    runtime.as_runc("grep -i core /proc/self/limits", check=False)


def test_personality_as_runc(runtime):
    runtime.config["linux"]["personality"] = {"domain": "LINUX32"}
    assert runtime.run("sh", "-c", "cat /proc/self/personality").stdout.strip() == "00000008"


def test_scheduler_and_io_priority(runtime):
    runtime.config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    runtime.config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    done = runtime.run("sh", "-c", "cut -d' ' -f19,41 /proc/self/stat")
    assert done.stdout.split() == ["7", "3"]


def test_time_offsets(runtime):
    runtime.config["linux"]["namespaces"].append({"type": "time"})
    runtime.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 5}, "monotonic": {"secs": 500}}
    done = runtime.run("sh", "-c", "cat /proc/uptime; readlink /proc/self/ns/time; cat /proc/self/timens_offsets")
    uptime, namespace, *offsets = done.stdout.splitlines()
    here = float(Path("/proc/uptime").read_text().split()[0])
    assert abs(float(uptime.split()[0]) - here - 1000000) < 60
    assert namespace != os.readlink("/proc/self/ns/time")
    assert [line.split() for line in offsets] == [["monotonic", "500", "0"], ["boottime", "1000000", "5"]]


@pytest.mark.parametrize("member, value, said", [
    ("apparmorProfile", "docker-default", "AppArmor"), ("selinuxLabel", "system_u:system_r:container_t:s0", "SELinux")])
def test_labels_without_their_module_are_refused(runtime, member, value, said):
    if Path("/sys/kernel/security/apparmor").exists() or Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("this host has a labelling security module")
    runtime.config["process"][member] = value
    refused(runtime, member, said)


# --- mounts

@pytest.fixture
def shared(tmp_path):
    """A directory with a file of each kind in it, owned by another user."""
    path = tmp_path / "shared"
    path.mkdir()
    (path / "file").write_text("x\n")
    (path / "file").chmod(0o666)
    os.chown(path / "file", 1000, 1000)
    (path / "below").mkdir()
    yield path
    subprocess.run(["umount", path / "below"], capture_output=True)


def test_relative_destinations_count_from_the_root(runtime, shared):
    runtime.config["mounts"].append({"destination": "mnt/here", "type": "bind", "source": str(shared), "options": ["rbind"]})
    assert runtime.run("cat", "/mnt/here/file").stdout == "x\n"


def test_files_and_sockets_can_be_bound(runtime, shared):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(shared / "socket"))
    for name in ("file", "socket"):
        runtime.config["mounts"].append({"destination": f"/run/{name}", "type": "bind", "source": str(shared / name), "options": ["bind", "ro"]})
    assert runtime.run("sh", "-c", "stat -c %F /run/file /run/socket; echo >/run/file", check=False).stdout == "regular file\nsocket\n"


@pytest.mark.parametrize("options, file, below", [
    (["rbind"], True, True), (["rbind", "ro"], False, True), (["rbind", "rro"], False, False), (["bind", "ro"], False, False)])
def test_recursive_attributes(runtime, shared, options, file, below):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "below"], check=True)
    runtime.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": str(shared), "options": options})
    done = runtime.run("sh", "-c", "{ echo >/mnt/file; } 2>/dev/null && echo file; { echo >/mnt/below/new; } 2>/dev/null && echo below; true")
    # A bind that is not recursive shows an empty, ordinary directory there.
    assert done.stdout.split() == ["file"] * file + ["below"] * below


def test_tmpfs_copies_up_what_it_covers(runtime, rootfs):
    source = rootfs / "seeded"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("kept\n")
    os.chown(source / "sub" / "file", 7, 8)
    (source / "sub" / "file").chmod(0o604)
    (source / "link").symlink_to("/etc/shadow")
    os.mkfifo(source / "fifo")
    try:
        runtime.config["mounts"].append({"destination": "/seeded", "type": "tmpfs", "source": "tmpfs",
                                         "options": ["tmpcopyup", "ro", "mode=755", "size=1m"]})
        ours = runtime.run("sh", "-c", "cd /seeded; cat sub/file; stat -c '%a %u %g' sub/file; ls; { echo >x; } 2>&1; true").stdout
        assert ours.splitlines()[:2] == ["kept", "604 7 8"] and "link" in ours and "Read-only" in ours and "fifo" not in ours
        assert (source / "sub" / "file").exists()
    finally:
        shutil.rmtree(source)


@pytest.mark.parametrize("user_namespace", [False, True])
def test_id_mapped_mounts(runtime, shared, user_namespace):
    maps = [{"containerID": 1000, "hostID": 4000, "size": 1}]
    if user_namespace:
        runtime.config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            runtime.config["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        maps = [{"containerID": 1000, "hostID": 104000, "size": 1}]
    runtime.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": str(shared), "options": ["rbind", "idmap"],
                                     "uidMappings": maps, "gidMappings": maps})
    done = runtime.run("stat", "-c", "%u %g", "/mnt/file", check=False)
    if "Invalid argument" in done.stderr:
        pytest.skip("the file system under the temporary directory takes no id map")
    assert done.stdout == "4000 4000\n", done.stderr
    assert (shared / "file").stat().st_uid == 1000
    runtime.nothing_left()


def test_id_map_of_the_container_itself(runtime, rootfs, shared):
    for mount in [*runtime.config["mounts"], {"destination": "/mnt"}]:
        # The container's root owns nothing of this image, so it cannot make what is not there.
        (rootfs / mount["destination"][1:]).mkdir(parents=True, exist_ok=True)
    runtime.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        runtime.config["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    runtime.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": str(shared), "options": ["rbind", "idmap"]})
    assert runtime.run("stat", "-c", "%u %g", "/mnt/file").stdout == "1000 1000\n"


@pytest.mark.parametrize("mount, said", [
    ({"destination": "/m", "type": "tmpfs", "source": "t", "options": ["idmap"]}, "bind"),
    ({"destination": "/m", "type": "bind", "source": "/tmp", "options": ["idmap"]}, "mappings"),
    ({"destination": "/m", "type": "bind", "source": "/tmp", "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}, "together"),
    ({"destination": "/m", "type": "proc", "source": "proc", "options": ["tmpcopyup"]}, "tmpcopyup")])
def test_mounts_that_cannot_be_are_named(runtime, mount, said):
    runtime.config["mounts"].append(mount)
    refused(runtime, "/m", said)


@pytest.mark.parametrize("name, value", [("kernel.msgmax", "9000"), ("net.ipv4.ip_forward", "1"), ("kernel.domainname", "there")])
def test_sysctls_of_the_container_as_runc(runtime, name, value):
    runtime.config["linux"]["sysctl"] = {name: value}
    path = "/proc/sys/" + name.replace(".", "/")
    before = Path(path).read_text()
    assert runtime.as_runc(f"cat {path}") == value + "\n"
    assert Path(path).read_text() == before


@pytest.mark.parametrize("name, without, said", [
    ("kernel.panic", None, "no namespace"), ("vm.swappiness", None, "no namespace"), ("net.core.somaxconn", "network", "network"),
    ("kernel.shmmax", "ipc", "ipc"), ("fs.mqueue.msg_max", "ipc", "ipc")])
def test_sysctls_of_the_host_are_refused(runtime, name, without, said):
    runtime.config["linux"]["namespaces"] = [n for n in runtime.config["linux"]["namespaces"] if n["type"] != without]
    runtime.config["linux"]["sysctl"] = {name: "1"}
    refused(runtime, name, said)
