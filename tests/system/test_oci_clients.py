# SPDX-License-Identifier: Apache-2.0
"""lodge-oci behind the engines that people use: podman, dockerd, containerd. Each with roots of its own below a
temporary directory, an image from a local tar, no registry and no network of its own; nothing of the host's engines is
touched, and no daemon, mount or cgroup stays behind."""
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

from conftest import need_command, need_root
from criu import need_criu
from patience import PATIENCE_S, until

APPLETS = "sh ls ps cat id mount sleep true false echo kill hostname".split()
LOOP = 'echo started; trap "exit 3" TERM; while :; do sleep 0.1; done'


@pytest.fixture(scope="module")
def work():
    need_root()
    # Short: socket paths have 107 characters.
    path = Path(tempfile.mkdtemp(prefix="lodge-cl-"))
    path.chmod(0o755)
    yield path
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        where = line.split()[4]
        if where.startswith(f"{path}/"):
            subprocess.run(["umount", "-l", where])
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def image(work):
    busybox = need_command("busybox")
    tar = work / "image.tar"
    root = work / "image"
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    with tarfile.open(tar, "w") as archive:
        archive.add(root, arcname=".")
    return tar


def cgroups_below(name):
    return [f"{at}/{child}" for at, children, _ in os.walk("/sys/fs/cgroup") for child in children if name in child]


class Client:
    """One engine's command line."""

    def __init__(self, *command, env=None):
        self.base = [str(c) for c in command]
        self.env = dict(os.environ, **(env or {}))

    def __call__(self, *args, status=0, **options):
        done = subprocess.run([*self.base, *map(str, args)], text=True, capture_output=True, timeout=90, env=self.env,
                              **options)
        assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout


def hard_limit():
    """Where the host lets nobody raise limits, the engines' own defaults must stay below them."""
    return 1024


@pytest.fixture(scope="module")
def podman(work, image, program):
    need_command("conmon")
    config = work / "containers.conf"
    config.write_text('[containers]\n'
                      f'default_ulimits = ["nofile={hard_limit()}:{hard_limit()}", "nproc=1024:1024"]\n'
                      'netns = "host"\n'
                      '[engine]\n'
                      'cgroup_manager = "cgroupfs"\n'
                      'events_logger = "file"\n'
                      'infra_image = "localhost/lodge-test:1"\n')
    client = Client(need_command("podman"), "--root", work / "pr", "--runroot", work / "prr", "--tmpdir", work / "pt",
                    "--storage-driver", "vfs", "--runtime", program("lodge-oci"), env={"CONTAINERS_CONF": str(config)})
    # The command is for pods, whose first container runs it.
    client("import", "--change", 'CMD ["/bin/sleep", "1000"]', image, "localhost/lodge-test:1")
    yield client
    client("rm", "--all", "--force", "--time", "0")


def test_podman_run_has_output_and_status(podman):
    assert podman("run", "--rm", "lodge-test:1", "/bin/echo", "hello") == "hello\n"
    podman("run", "--rm", "lodge-test:1", "/bin/sh", "-c", "exit 42", status=42)
    podman("run", "--rm", "lodge-test:1", "nosuch", status=127)
    assert json.loads(podman("ps", "--all", "--format", "json")) == []


def test_podman_run_in_a_network_of_its_own(podman):
    assert podman("run", "--rm", "--network", "none", "--hostname", "box", "lodge-test:1", "/bin/hostname") == "box\n"


def test_podman_life(podman):
    podman("run", "--detach", "--name", "life", "--memory", "64m", "lodge-test:1", "/bin/sh", "-c", LOOP)
    until(lambda: podman("logs", "life") == "started\n")
    assert podman("exec", "life", "/bin/echo", "inside") == "inside\n"
    podman("exec", "life", "/bin/sh", "-c", "exit 4", status=4)
    podman("exec", "life", "nosuch", status=127)
    assert podman("exec", "--user", "5:6", "life", "/bin/id", "-u") == "5\n"
    assert podman("exec", "--tty", "life", "/bin/sh", "-c", "echo by terminal >/dev/tty").split("\n")[0].rstrip() == "by terminal"
    podman("pause", "life")
    assert "aused" in podman("ps", "--all", "--format", "{{.Status}}")
    podman("unpause", "life")
    assert "sleep" in podman("top", "life", "args")
    stats = json.loads(podman("stats", "--no-stream", "--format", "json", "life"))
    assert int(stats[0]["pids"]) >= 1
    podman("stop", "--time", "10", "life")
    assert podman("inspect", "--format", "{{.State.ExitCode}} {{.State.Status}}", "life") == "3 exited\n"
    podman("start", "life")
    podman("restart", "--time", "5", "life")
    identity = podman("inspect", "--format", "{{.Id}}", "life").strip()
    podman("rm", "--force", "--time", "0", "life")
    assert not cgroups_below(identity)


def test_podman_plays_kube(podman, work):
    (work / "pod.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec:\n  hostNetwork: true\n  containers:\n"
        '  - {name: one, image: "localhost/lodge-test:1", imagePullPolicy: Never, command: ["/bin/sh", "-c", "echo one; sleep 100"]}\n'
        '  - {name: two, image: "localhost/lodge-test:1", imagePullPolicy: Never, command: ["/bin/sh", "-c", "echo two; sleep 100"]}\n')
    podman("play", "kube", work / "pod.yaml")
    assert until(lambda: podman("logs", "pod-one")) == "one\n"
    assert until(lambda: podman("logs", "pod-two")) == "two\n"
    podman("pod", "rm", "--force", "--time", "0", "pod")
    assert podman("ps", "--all", "--quiet") == ""


def test_podman_checkpoints_and_restores(podman, build):
    """podman looks for criu in PATH."""
    criu = Path(need_criu(build))
    client = Client(*podman.base, env={**podman.env, "PATH": f"{criu.parent}:{os.environ['PATH']}"})
    count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"
    client("run", "--detach", "--name", "saved", "--network", "none", "lodge-test:1", "/bin/sh", "-c", count)
    try:
        until(lambda: "5" in client("logs", "saved").split())
        client("container", "checkpoint", "saved")
        last = int(client("logs", "saved").split()[-1])
        assert "Exited" in client("ps", "--all", "--format", "{{.Status}}")
        client("container", "restore", "saved")
        until(lambda: int(client("logs", "saved").split()[-1]) > last + 2)
        numbers = [int(n) for n in client("logs", "saved").split()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert client("exec", "saved", "/bin/echo", "inside") == "inside\n"
    finally:
        client("rm", "--force", "--time", "0", "saved")


@pytest.fixture(scope="module")
def dockerd(work, program):
    """A daemon of its own with its own containerd; yields its directory."""
    daemon = need_command("dockerd")
    need_command("docker")
    need_command("containerd-shim-runc-v2")
    place = work / "d"
    place.mkdir()
    (place / "daemon.json").write_text(json.dumps({
        "runtimes": {"lodge": {"path": program("lodge-oci")}}, "default-runtime": "lodge", "data-root": str(place / "root"),
        "exec-root": str(place / "exec"), "pidfile": str(place / "pid"), "hosts": [f"unix://{place}/sock"], "bridge": "none",
        "iptables": False, "ip6tables": False, "storage-driver": "vfs", "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": hard_limit(), "Hard": hard_limit()}}}))
    with open(place / "log", "w") as log:
        process = subprocess.Popen([daemon, "--config-file", str(place / "daemon.json")], stdout=log, stderr=log)
    try:
        docker = Client("docker", "-H", f"unix://{place}/sock")
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run([*docker.base, "version"], capture_output=True).returncode != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.skip("dockerd does not start here: " + (place / "log").read_text()[-300:])
            time.sleep(0.1)
        yield place
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def docker(dockerd, image):
    client = Client("docker", "-H", f"unix://{dockerd}/sock")
    client("import", image, "lodge-test:1")
    yield client
    if left := client("ps", "--all", "--quiet").split():
        client("rm", "--force", *left)


OPTIONS = ("--network", "none")


def test_docker_run_has_output_and_status(docker):
    assert docker("run", "--rm", *OPTIONS, "lodge-test:1", "/bin/echo", "hello") == "hello\n"
    docker("run", "--rm", *OPTIONS, "lodge-test:1", "/bin/sh", "-c", "exit 42", status=42)
    docker("run", "--rm", *OPTIONS, "lodge-test:1", "nosuch", status=127)


def test_docker_life(docker):
    docker("run", "--detach", "--name", "life", "--memory", "64m", *OPTIONS, "lodge-test:1", "/bin/sh", "-c", LOOP)
    until(lambda: docker("logs", "life") == "started\n")
    assert docker("exec", "life", "/bin/echo", "inside") == "inside\n"
    docker("exec", "life", "/bin/sh", "-c", "exit 4", status=4)
    assert "64MiB" in docker("stats", "--no-stream", "life")
    assert "sh -c" in docker("top", "life")
    docker("pause", "life")
    assert "Paused" in docker("ps")
    docker("unpause", "life")
    docker("update", "--memory", "32m", "--memory-swap", "64m", "--cpus", "0.5", "life")
    assert "32MiB" in docker("stats", "--no-stream", "life")
    docker("restart", "--time", "5", "life")
    assert until(lambda: docker("logs", "life") == "started\nstarted\n")
    docker("stop", "--time", "10", "life")
    assert docker("inspect", "--format", "{{.State.ExitCode}} {{.State.Status}}", "life") == "3 exited\n"
    identity = docker("inspect", "--format", "{{.Id}}", "life").strip()
    docker("rm", "--force", "life")
    assert not cgroups_below(identity)


def test_docker_containers_in_a_row_share_a_volume(docker):
    """What compose does: a volume, a first service that fills it, a second that needs it."""
    docker("volume", "create", "shared")
    docker("run", "--rm", "--volume", "shared:/data", *OPTIONS, "lodge-test:1", "/bin/sh", "-c", "echo kept >/data/file")
    assert docker("run", "--rm", "--volume", "shared:/data:ro", *OPTIONS, "lodge-test:1", "/bin/cat", "/data/file") == "kept\n"
    docker("run", "--rm", "--volume", "shared:/data:ro", *OPTIONS, "lodge-test:1", "/bin/sh", "-c", "echo no >/data/file", status=1)
    docker("volume", "rm", "shared")


def converse(client, *args):
    """A shell in a container, at the end of the command line, by turns: what a program writes that ends at once is lost to ctr on a busy
    host, with runc as well, since it gives up opening its side of the streams."""
    command = [*client.base, *map(str, args), "/bin/sh", "-c", "echo hello; read word; echo $word"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=client.env) as shell:
        assert shell.stdout.readline() == "hello\n"
        assert shell.communicate("over\n", timeout=PATIENCE_S)[0] == "over\n" and shell.returncode == 0


def test_containerd_life(dockerd, docker, work, program):
    """ctr against the containerd that dockerd brought along, in a namespace of its own."""
    archive = work / "oci.tar"
    docker("save", "--output", archive, "lodge-test:1")
    ctr = Client(need_command("ctr"), "--address", dockerd / "exec/containerd/containerd.sock", "--namespace", "lodge")
    ctr("images", "import", archive)
    name = ctr("images", "list", "--quiet").split()[0]
    run = ("run", "--runc-binary", program("lodge-oci"), "--snapshotter", "native")
    converse(ctr, *run, "--rm", name, "first")
    ctr(*run, "--detach", name, "second", "/bin/sleep", "100")
    converse(ctr, "task", "exec", "--exec-id", "e1", "second")
    ctr("task", "pause", "second")
    assert "PAUSED" in ctr("task", "list")
    ctr("task", "resume", "second")
    assert "RUNNING" in ctr("task", "list")
    ctr("task", "metrics", "second")
    ctr("task", "kill", "--signal", "SIGKILL", "second")
    until(lambda: "STOPPED" in ctr("task", "list"))
    ctr("container", "rm", "second")
    ctr("images", "rm", name)
    assert ctr("container", "list", "--quiet") == ""
