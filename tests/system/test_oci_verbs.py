# SPDX-License-Identifier: Apache-2.0
"""The verbs that engines call on a container that runs: exec, ps, pause, update, events and the rest; where runc is
installed, its answer for the same container is the right one."""
import json
import os
import subprocess
from pathlib import Path

import pytest

from conftest import need_command
from patience import PATIENCE_S, until
from test_oci import Runtime, rootfs  # noqa: F401 (a fixture)


def cgroup_paths(text):
    """Names and paths in /proc/PID/cgroup, of the hierarchies below /sys/fs/cgroup: the kernel also names those that another
    test has mounted for itself."""
    found = [line.split(":")[1:] for line in text.split()]
    return {name: path for name, path in found for place in ([name.removeprefix("name=")] if name else ["", "unified"])
            if Path("/sys/fs/cgroup", place, "cgroup.procs").exists()}


class Container(Runtime):
    def verb(self, *args, status=0, **options):
        done = subprocess.run(self.command(*map(str, args)), text=True, capture_output=True, timeout=PATIENCE_S, **options)
        assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def start(self, *args, program=None):
        self.write(*args)
        with open(os.devnull, "r+") as null:
            subprocess.run(self.command("run", "--detach", "--bundle", str(self.bundle), self.name, program=program),
                           check=True, stdin=null, stdout=null, timeout=PATIENCE_S)

    def exec(self, *args, options=(), **more):
        return self.verb("exec", *options, self.name, *args, **more)

    def detach(self, *args):
        """exec --detach: whoever keeps running keeps its streams, so they are nobody's."""
        subprocess.run(self.command("exec", "--detach", *map(str, args)), check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, timeout=PATIENCE_S)

    def status(self):
        return json.loads(self.verb("state", self.name))["status"]


@pytest.fixture
def container(program, rootfs, tmp_path):  # noqa: F811
    made = Container(program("lodge-oci"), rootfs, tmp_path)
    yield made
    made.verb("delete", "--force", made.name)
    made.nothing_left()


@pytest.fixture
def sleeping(container):
    container.config["process"]["env"].append("FROM=config")
    container.start("sleep", "1000")
    return container


def test_exec_passes_streams_and_status(sleeping):
    assert sleeping.exec("cat", input="through\n") == "through\n"
    sleeping.exec("sh", "-c", "exit 7", status=7)
    sleeping.exec("sh", "-c", "kill -9 $$", status=137)
    assert "executable file not found" in sleeping.exec("nosuch", status=255)
    assert "Permission denied" in sleeping.exec("/bin", status=255)


def test_exec_is_inside_everything(sleeping):
    """The new process is where the first one is: every namespace, every cgroup, the same root."""
    pid = json.loads(sleeping.verb("state", sleeping.name))["pid"]
    names = "cgroup ipc mnt net pid uts".split()
    inside = sleeping.exec("sh", "-c", "for n in cgroup ipc mnt net pid uts; do stat -L -c %i /proc/self/ns/$n; done").split()
    assert inside == [str(os.stat(f"/proc/{pid}/ns/{n}").st_ino) for n in names]
    sleeping.detach(sleeping.name, "sleep", "50")
    processes = json.loads(sleeping.verb("ps", "--format", "json", sleeping.name))
    assert pid in processes and len(processes) == 2
    assert len({Path(f"/proc/{p}/cgroup").read_text() for p in processes}) == 1


def test_exec_options(sleeping):
    options = ("--user", "5:6", "--additional-gids", "7", "--env", "A=b", "--cwd", "/bin", "--cap", "CAP_NET_RAW", "--no-new-privs")
    said = sleeping.exec("sh", "-c", "id; echo $A $FROM; pwd; grep -E 'NoNew|CapBnd' /proc/self/status", options=options)
    identity, env, cwd, bounding, privileges = said.splitlines()
    assert identity.startswith("uid=5 gid=6") and identity.endswith("7")
    assert (env, cwd) == ("b config", "/bin")
    assert int(bounding.split()[1], 16) & 1 << 13 and privileges.split()[1] == "1"


def test_exec_of_a_process_file_with_pid_file(sleeping, tmp_path):
    process = {"args": ["sh", "-c", "echo $X >/dev/shm/out; sleep 50"], "cwd": "/", "env": ["X=file", "PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    (tmp_path / "process.json").write_text(json.dumps(process))
    sleeping.detach("--process", tmp_path / "process.json", "--pid-file", tmp_path / "pid", sleeping.name)
    pid = int((tmp_path / "pid").read_text())
    assert pid in json.loads(sleeping.verb("ps", "--format", "json", sleeping.name))
    until(lambda: sleeping.exec("sh", "-c", "cat /dev/shm/out 2>/dev/null; true") == "file\n")


def test_exec_gets_a_terminal(sleeping):
    assert sleeping.exec("tty", options=("--tty",)).strip() == "/dev/pts/0"
    assert "console-socket" in sleeping.exec("sh", options=("--tty", "--detach"), status=255)


def test_exec_leaks_no_descriptor_and_no_directory(sleeping):
    """CVE-2024-21626: neither an inherited descriptor nor a working directory leads outside."""
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        listed = sleeping.exec("sh", "-c", "ls /proc/self/fd | wc -w", pass_fds=(fd,)) if "wc" in os.listdir(sleeping.rootfs / "bin") \
            else sleeping.exec("ls", "/proc/self/fd", pass_fds=(fd,))
        assert len(listed.split()) <= 4 and str(fd) not in listed.split()[3:] or fd <= 3
        for number in range(3, 20):
            said = subprocess.run(sleeping.command("exec", "--cwd", f"/proc/self/fd/{number}", sleeping.name, "ls"), text=True,
                                  capture_output=True, pass_fds=(fd,), timeout=PATIENCE_S)
            assert said.returncode != 0 and "home" not in said.stdout
    finally:
        os.close(fd)


def test_exec_preserves_only_what_was_asked(sleeping, tmp_path):
    command = sleeping.command("exec", "--preserve-fds", "1", sleeping.name, "sh", "-c", "echo x >&3; echo y >&4")
    done = subprocess.run(["sh", "-c", 'exec 3>three 4>four; exec "$@"', "sh", *command], cwd=tmp_path, capture_output=True,
                          text=True, timeout=PATIENCE_S)
    assert done.returncode != 0
    assert ((tmp_path / "three").read_text(), (tmp_path / "four").read_text()) == ("x\n", "")


@pytest.mark.parametrize("verb", ["run", "create", "exec"])
def test_descriptors_to_preserve_must_be_open(sleeping, verb):
    """Else the number is soon that of a descriptor of the runtime's, through which the image's paths would lead out."""
    bundle = [] if verb == "exec" else ["--bundle", str(sleeping.bundle)]
    name = [sleeping.name, "true"] if verb == "exec" else [f"{sleeping.name}-2"]
    said = sleeping.verb(verb, *bundle, "--preserve-fds", "2", *name, status=255 if verb == "exec" else 1)
    assert "descriptor 3 is not open" in said


def test_the_new_process_is_hidden_until_its_program_runs(sleeping):
    """No process of the container may look into the runtime through /proc while it is joining."""
    said = sleeping.exec("sh", "-c", "ls -l /proc/self/exe")
    assert "lodge" not in said


def test_pause_stops_and_resume_continues(sleeping):
    sleeping.verb("pause", sleeping.name)
    assert sleeping.status() == "paused"
    assert "paused" in sleeping.exec("true", status=255)
    assert "paused" in sleeping.verb("pause", sleeping.name, status=1)
    sleeping.verb("resume", sleeping.name)
    assert sleeping.status() == "running"
    sleeping.exec("true")
    assert "running" in sleeping.verb("resume", sleeping.name, status=1)


def test_a_paused_container_can_be_killed_and_deleted(sleeping):
    sleeping.verb("pause", sleeping.name)
    sleeping.verb("kill", sleeping.name, "KILL")
    until(lambda: sleeping.status() == "stopped")
    assert "container not running" in sleeping.verb("kill", sleeping.name, status=1)


def test_delete_force_of_a_paused_one(sleeping):
    sleeping.verb("pause", sleeping.name)
    sleeping.verb("delete", "--force", sleeping.name)
    sleeping.nothing_left()


@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "sigterm", "15"])
def test_signals_by_name_and_number(container, name):
    container.config["process"]["args"] = []
    container.start("sh", "-c", "trap 'exit 0' TERM; echo up >/dev/shm/ready; while :; do sleep 0.05; done")
    until(lambda: container.exec("sh", "-c", "cat /dev/shm/ready 2>/dev/null; true") == "up\n")
    container.verb("kill", container.name, name)
    until(lambda: container.status() == "stopped")


def test_kill_all_reaches_every_process(sleeping):
    sleeping.detach(sleeping.name, "sleep", "50")
    sleeping.detach(sleeping.name, "sleep", "51")
    sleeping.verb("kill", "--all", sleeping.name, "TERM")
    # The first process is the container's pid 1: TERM without a handler does not end it.
    until(lambda: len(json.loads(sleeping.verb("ps", "--format", "json", sleeping.name))) == 1)
    assert "unknown signal" in sleeping.verb("kill", sleeping.name, "NOSUCH", status=1)


def test_delete_takes_several(sleeping):
    said = sleeping.verb("delete", sleeping.name, "nosuch", status=1)
    assert "running" in said and "does not exist" in said
    sleeping.verb("delete", "--force", sleeping.name, "nosuch")


def limit_file(container, v1, v2):
    for path in (f"/sys/fs/cgroup/{v1.split('.')[0]}/{container.name}/{v1}", f"/sys/fs/cgroup/{container.name}/{v2}"):
        if Path(path).exists():
            return Path(path).read_text().strip()
    pytest.skip(f"no controller for {v1}")


def test_update_by_options_and_file(sleeping):
    def memory():
        return limit_file(sleeping, "memory.limit_in_bytes", "memory.max")

    sleeping.verb("update", "--memory", "64M", "--memory-swap", "128M", "--pids-limit", "50", sleeping.name)
    assert memory() == str(64 << 20) and limit_file(sleeping, "pids.max", "pids.max") == "50"
    # Growing past the limit with swap, and shrinking below it, in one step each.
    sleeping.verb("update", "--memory", "256M", "--memory-swap", "512M", sleeping.name)
    assert memory() == str(256 << 20)
    sleeping.verb("update", "--memory", "32M", "--memory-swap", "33M", sleeping.name)
    assert memory() == str(32 << 20)
    sleeping.verb("update", "--resources", "-", sleeping.name, input='{"memory": {"limit": 0}, "cpu": {"shares": 512}}')
    assert memory() == str(32 << 20)
    assert limit_file(sleeping, "cpu.shares", "cpu.weight") in ("512", "59")
    assert "limit" in sleeping.verb("update", "--resources", "-", sleeping.name, status=1, input='{"memory": {"limit": "much"}}')


def shape(value):
    """Member names and kinds, without the numbers."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items()}
    return "list" if isinstance(value, list) else "number" if isinstance(value, (int, float)) else type(value).__name__


def test_events_have_the_shape_of_runcs(sleeping):
    runc = need_command("runc")
    ours = json.loads(sleeping.verb("events", "--stats", sleeping.name))
    assert ours["type"] == "stats" and ours["id"] == sleeping.name
    name = sleeping.name + "-peer"
    with open(os.devnull, "r+") as null:
        subprocess.run(sleeping.command("run", "--detach", "--bundle", str(sleeping.bundle), name, program=runc), check=True,
                       stdin=null, stdout=null)
    try:
        theirs = json.loads(subprocess.check_output(sleeping.command("events", "--stats", name, program=runc)))
    finally:
        subprocess.run(sleeping.command("delete", "--force", name, program=runc), check=True)
    for part in ("cpu", "memory", "pids"):
        mine, peers = shape(ours["data"][part]), shape(theirs["data"][part])
        for member, kind in mine.items():
            if isinstance(kind, dict) and member in peers:
                extra = set(kind) - set(peers[member])
                assert not extra, (part, member, extra)
        assert set(mine) - {"cache"} <= set(peers), part  # runc leaves out a cache of 0
    assert ours["data"]["memory"]["usage"]["usage"] > 0 and ours["data"]["pids"]["current"] == 1


def test_events_follow_until_the_end(sleeping):
    child = subprocess.Popen(sleeping.command("events", "--interval", "50ms", sleeping.name), stdout=subprocess.PIPE, text=True)
    assert json.loads(child.stdout.readline())["type"] == "stats"
    sleeping.verb("kill", sleeping.name, "KILL")
    assert child.wait(PATIENCE_S) == 0
    child.stdout.close()


def test_list_and_state_have_the_members_of_runcs(sleeping):
    runc = need_command("runc")
    ours = json.loads(sleeping.verb("list", "--format", "json"))[0]
    name = sleeping.name + "-peer"
    with open(os.devnull, "r+") as null:
        subprocess.run([runc, "--root", str(sleeping.state) + "-peer", "run", "--detach", "--bundle", str(sleeping.bundle), name],
                       check=True, stdin=null, stdout=null)
    try:
        theirs = json.loads(subprocess.check_output([runc, "--root", str(sleeping.state) + "-peer", "list", "--format", "json"]))[0]
    finally:
        subprocess.run([runc, "--root", str(sleeping.state) + "-peer", "delete", "--force", name], check=True)
    assert shape(ours) == shape(theirs)


def test_features_name_what_the_runtime_takes(container):
    features = json.loads(container.verb("features"))
    assert features["ociVersionMax"].startswith("1.") and "pid" in features["linux"]["namespaces"]
    # Every mount option that is named is taken.
    container.config["mounts"].append({"destination": "/mnt", "type": "bind", "source": "/usr", "options": ["bind"]})
    for option in features["mountOptions"]:
        if option in ("unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave", "bind", "rbind"):
            continue
        container.config["mounts"][-1]["options"] = ["rbind", option]
        container.run("true")


def test_the_configuration_is_the_one_of_create(sleeping):
    """What happens to the bundle later does not concern the container."""
    (sleeping.bundle / "config.json").write_text("{}")
    assert sleeping.exec("echo", "still") == "still\n"


def test_systemd_is_refused_with_the_reason(container):
    done = subprocess.run([container.program, "--systemd-cgroup", "list"], text=True, capture_output=True)
    assert done.returncode == 1 and "cgroupfs" in done.stderr


def test_errors_reach_the_log_as_json(container, tmp_path):
    log = tmp_path / "log"
    done = subprocess.run([container.program, "--root", str(container.state), "--log", str(log), "--log-format", "json", "state", "nosuch"],
                          text=True, capture_output=True)
    entry = json.loads(log.read_text())
    assert done.returncode == 1 and entry["level"] == "error" and "does not exist" in entry["msg"]
