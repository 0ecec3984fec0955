# SPDX-License-Identifier: Apache-2.0
"""Single requirements of the runtime specification: one change to the default configuration each, and what a program
inside then sees; runc's answer for the same bundle is the right one."""
import fcntl
import json
import os
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from conftest import need_command
from test_oci import Runtime, rootfs, runtime  # noqa: F401 (fixtures)
from test_oci_checkpoint import receive_master
from test_oci_verbs import Container, cgroup_paths, container  # noqa: F401 (a fixture)


def process(**members):
    return lambda config: config["process"].update(members)


def user(**members):
    return lambda config: config["process"]["user"].update(members)


def linux(**members):
    return lambda config: config["linux"].update(members)


def mount(**members):
    return lambda config: config["mounts"].append(members)


def tmpfs(*options):
    return mount(destination="/mnt", type="tmpfs", source="tmpfs", options=list(options))


def no_namespace(kind):
    def change(config):
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != kind]
        if kind == "uts":
            config.pop("hostname")
        if kind == "network":
            config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/sys"]
    return change


OPTIONS_OF_MNT = "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f5-6"
PROPAGATION = "grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ {} ' /proc/self/mountinfo | sed 's/:[0-9]*//g' | cut -d' ' -f7"
DEVICE = {"path": "/dev/own", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4}

# name: (change, what is looked at)
CASES = {
    "root.readonly": (lambda c: c["root"].update(readonly=True), "touch /x 2>&1; grep ' / / \\| / ' /proc/self/mountinfo | head -1 | cut -d' ' -f6"),
    "process.cwd": (process(cwd="/bin"), "pwd"),
    "process.cwd that is missing": (process(cwd="/made/here"), "pwd; stat -c '%a %u' /made/here"),
    "process.env": (process(env=["PATH=/bin", "A=1", "B=two words", "EMPTY="]), "env | sort"),
    "process.env without HOME": (process(env=["PATH=/bin"]), "echo $HOME"),
    "process.user": (user(uid=1000, gid=1001), "id -u; id -g; grep -E '^(Cap|Uid|Gid)' /proc/self/status"),
    "process.user.additionalGids": (user(additionalGids=[5, 77]), "id -G"),
    "process.user.umask": (user(umask=0o77), "umask; touch /tmp-x; stat -c %a /tmp-x; rm /tmp-x"),
    "process.noNewPrivileges": (process(noNewPrivileges=False), "grep NoNewPrivs /proc/self/status"),
    "process.capabilities, none": (process(capabilities={}), "grep Cap /proc/self/status"),
    "process.capabilities, ambient": (lambda c: (c["process"].update(user={"uid": 5, "gid": 5}), c["process"].update(capabilities={
        k: ["CAP_KILL", "CAP_CHOWN"] for k in "bounding effective permitted inheritable ambient".split()})), "grep Cap /proc/self/status"),
    "process.rlimits": (process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                                         {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 21}]), "cat /proc/self/limits"),
    "process.oomScoreAdj": (process(oomScoreAdj=321), "cat /proc/self/oom_score_adj"),
    "hostname": (lambda c: c.update(hostname="other"), "hostname"),
    "mounts, tmpfs options": (tmpfs("size=128k", "mode=711", "nosuid"), OPTIONS_OF_MNT + "; grep /mnt /proc/mounts | grep -o size=128k"),
    **{f"mounts, {option}": (tmpfs(option), OPTIONS_OF_MNT) for option in "ro noexec nosuid nodev noatime nodiratime strictatime relatime".split()},
    "mounts, several attributes": (tmpfs("ro", "nosuid", "nodev", "noexec"), OPTIONS_OF_MNT),
    **{f"mounts, {option}": (tmpfs(option), PROPAGATION.format("/mnt")) for option in "shared slave private unbindable rshared rprivate".split()},
    "mounts, later over earlier": (lambda c: (tmpfs()(c), tmpfs("ro")(c)), "grep -c ' /mnt ' /proc/self/mountinfo; touch /mnt/x 2>&1"),
    "mounts, bind read-only": (mount(destination="/mnt", type="bind", source="/usr", options=["rbind", "ro"]), "touch /mnt/x 2>&1; " + OPTIONS_OF_MNT),
    "mounts, type none": (mount(destination="/mnt", type="none", source="/usr", options=["bind"]), OPTIONS_OF_MNT + " | cut -d' ' -f1"),
    "linux.devices": (linux(devices=[DEVICE]), "stat -c '%n %F %a %u %g %t,%T' /dev/own"),
    "linux.devices, a fifo": (linux(devices=[{"path": "/dev/fifo", "type": "p", "fileMode": 0o600}]), "stat -c '%F %a' /dev/fifo"),
    **{f"linux.namespaces, no {kind}": (no_namespace(kind), f"stat -L -c %i /proc/self/ns/{proc}")
       for kind, proc in (("network", "net"), ("ipc", "ipc"), ("uts", "uts"))},
    "linux.maskedPaths": (linux(maskedPaths=["/proc/version", "/proc/sys", "/no/such"]), "cat /proc/version | wc -c; ls /proc/sys | wc -l"),
    "linux.readonlyPaths": (linux(readonlyPaths=["/proc/sys/kernel", "/no/such"]), "echo x 2>&1 >/proc/sys/kernel/domainname; grep ' /proc/sys/kernel ' /proc/self/mountinfo | cut -d' ' -f6"),
    **{f"linux.rootfsPropagation, {kind}": (linux(rootfsPropagation=kind), PROPAGATION.format("/")) for kind in "private slave shared".split()},
    "linux.sysctl": (linux(sysctl={"net.ipv4.ip_forward": "1", "kernel.shmmax": "123456"}), "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax"),
    "linux.resources.pids": (linux(resources={"pids": {"limit": 17}}), "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"),
    "linux.resources.memory": (linux(resources={"memory": {"limit": 32 << 20, "reservation": 16 << 20}}),
                               "cd /sys/fs/cgroup/memory 2>/dev/null && cat memory.limit_in_bytes memory.soft_limit_in_bytes || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.low"),
    "linux.resources.cpu": (linux(resources={"cpu": {"shares": 300, "quota": 20000, "period": 50000, "cpus": "0"}}),
                            "cd /sys/fs/cgroup; cat cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus 2>/dev/null || cat cpu.max cpuset.cpus"),
    "linux.resources.devices": (linux(resources={"devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"}]}),
                                "dd if=/dev/zero of=/dev/null bs=1 count=1 2>&1 | grep -v copied; dd if=/dev/full bs=1 count=1 2>&1 | grep -v copied; mknod /dev/m c 1 3 2>&1"),
}


@pytest.mark.parametrize("case", CASES)
def test_as_runc_has_it(runtime, case):  # noqa: F811
    need_command("runc")
    change, probe = CASES[case]
    change(runtime.config)
    ours = runtime.run("sh", "-c", probe, check=False)
    made = runtime.rootfs / "made"
    if made.exists():
        (made / "here").rmdir()
        made.rmdir()
    theirs = runtime.peer("sh", "-c", probe, check=False)
    if made.exists():
        (made / "here").rmdir()
        made.rmdir()
    assert theirs.stdout, theirs.troubles
    assert (ours.stdout, ours.returncode) == (theirs.stdout, theirs.returncode), (ours.stderr, theirs.troubles)


def test_console_size(container, tmp_path):  # noqa: F811
    container.config["process"].update(terminal=True, consoleSize={"height": 23, "width": 77})
    container.write("sleep", "100")
    os.chdir(tmp_path)
    master = receive_master("s", lambda: subprocess.run(
        container.command("run", "--detach", "--bundle", str(container.bundle), "--console-socket", "s", container.name), check=True))
    assert struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))[:2] == (23, 77)
    os.close(master)


def test_affinity_of_processes_that_join(container):  # noqa: F811
    if os.cpu_count() < 2:
        pytest.skip("needs two processors")
    container.start("sleep", "1000")
    process_file = container.bundle / "process.json"
    process_file.write_text(json.dumps({**container.config["process"], "args": ["grep", "Cpus_allowed_list", "/proc/self/status"],
                                        "execCPUAffinity": {"initial": "0", "final": "1"}}))
    assert container.verb("exec", "--process", process_file, container.name).split() == ["Cpus_allowed_list:", "1"]


def test_namespaces_by_path(runtime):  # noqa: F811
    need_command("unshare")
    holder = subprocess.Popen(["unshare", "--net", "--ipc", "--uts", "sh", "-c", "echo made; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        runtime.config.pop("hostname")
        for namespace in runtime.config["linux"]["namespaces"]:
            if namespace["type"] in ("network", "ipc", "uts"):
                namespace["path"] = f"/proc/{holder.pid}/ns/{namespace['type'].replace('network', 'net')}"
        inside = runtime.run("sh", "-c", "for n in net ipc uts; do stat -L -c %i /proc/self/ns/$n; done").stdout.split()
        assert inside == [str(os.stat(f"/proc/{holder.pid}/ns/{n}").st_ino) for n in ("net", "ipc", "uts")]
        runtime.config["linux"]["namespaces"][0]["path"] = "/no/such"
        assert "/no/such" in runtime.run("true", check=False).stderr
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize("path", ["/{}/below", "{}/relative"])
def test_cgroups_path(container, path):  # noqa: F811
    wanted = path.format(container.name)
    container.config["linux"]["cgroupsPath"] = wanted
    container.start("sleep", "1000")
    pid = json.loads(container.verb("state", container.name))["pid"]
    inside = cgroup_paths(Path(f"/proc/{pid}/cgroup").read_text())
    assert inside and set(inside.values()) == {"/" + wanted.lstrip("/")}
    container.verb("delete", "--force", container.name)
    for place in Path("/sys/fs/cgroup").glob(f"*/{container.name}"):
        assert not list(place.glob("below")) and not list(place.glob("relative"))
        place.rmdir()
    if (place := Path("/sys/fs/cgroup", container.name)).exists():
        place.rmdir()


def test_state_has_the_members_of_the_specification(container):  # noqa: F811
    container.config["annotations"] = {"org.example.key": "value"}
    container.start("sleep", "1000")
    state = json.loads(container.verb("state", container.name))
    assert state["ociVersion"] == container.config["ociVersion"] and state["id"] == container.name
    assert state["status"] == "running" and state["bundle"] == str(container.bundle)
    assert state["annotations"] == {"org.example.key": "value"} and Path(f"/proc/{state['pid']}").exists()


def test_operations_in_the_wrong_state_are_errors(container):  # noqa: F811
    name = container.name
    for verb in ("state", "start", "kill", "delete", "pause", "resume"):
        assert "does not exist" in container.verb(verb, name, status=1)
    container.start("sleep", "1000")
    assert "only a created one" in container.verb("start", name, status=1)
    assert "only a paused one" in container.verb("resume", name, status=1)
    assert "running" in container.verb("delete", name, status=1)
    container.verb("kill", name, "KILL")
    for _ in range(200):
        if container.status() == "stopped":
            break
    assert "not running" in container.verb("kill", name, "TERM", status=1)
    container.verb("delete", name)
    assert "does not exist" in container.verb("delete", name, status=1)


def test_unknown_members_are_ignored(runtime):  # noqa: F811
    runtime.config["newer"] = {"than": "this"}
    runtime.config["linux"]["newer"] = 1
    runtime.run("true")


@pytest.mark.parametrize("version,fine", [("1.0.0", True), ("1.2.0", True), ("1.9.9-rc1", True), ("2.0.0", False), ("x", False)])
def test_versions(runtime, version, fine):  # noqa: F811
    runtime.config["ociVersion"] = version
    done = runtime.run("true", check=False)
    assert (done.returncode == 0) == fine and (fine or "ociVersion" in done.stderr)


ROW = re.compile(r"^\| (.*) \| (.*) \|$")


def test_the_table_of_requirements_names_tests_that_exist():
    """docs/oci-conformance.md: every test it names is there, and its own count is right."""
    here = Path(__file__).resolve().parent
    text = (here.parent.parent / "docs" / "oci-conformance.md").read_text()
    sources = {p.stem.removeprefix("test_").removeprefix("oci_"): p.read_text() for p in here.glob("test_oci*.py")} | {
        f"unit/{p.stem.removeprefix('test_')}": p.read_text() for p in (here.parent / "unit" / "oci").glob("test_*.c")}
    proven = open_rows = 0
    for line in text.splitlines():
        row = ROW.match(line)
        if not row or row[1] in ("Requirement", "Attack", "Fault") or row[1].startswith("---"):
            continue
        names = re.findall(r"`([\w/]+)::(\w+)(?:\[([^`]*)\])?`", row[2])
        for file, test, case in names:
            assert file in sources, line
            assert re.search(rf"(^def test_|START_TEST\(){test}[()]", sources[file], re.M), line
            assert not case or case in sources[file] or case in CASES, line
        proven, open_rows = proven + bool(names), open_rows + (not names)
        assert names or row[2].startswith("not proven: "), line
    said = re.search(r"(\d+) requirements are proven by a test, (\d+) (?:is|are) not", text)
    assert said and (int(said[1]), int(said[2])) == (proven, open_rows), (proven, open_rows)
