# SPDX-License-Identifier: Apache-2.0
"""lodge-oci's completion as the shells see it, and that it offers every option that a verb takes."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, need_command
from patience import PATIENCE_S
from test_oci import rootfs  # noqa: F401 (a fixture)
from test_oci_verbs import container  # noqa: F401 (a fixture)

SCRIPTS = ROOT / "tools" / "completion"
VERBS = "checkpoint create delete events exec features kill list pause ps restore resume run spec start state update".split()


def bash_offers(program, line, cwd):
    bash = need_command("bash")
    typed = line.split() + ([""] if line.endswith(" ") else [])
    quoted = " ".join(f"'{word}'" for word in typed)
    script = (f'PATH="{os.path.dirname(program("lodge-oci"))}:$PATH"; source "{SCRIPTS}/lodge-oci"; COMP_WORDS=({quoted}); '
              'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _lodge_oci; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run([bash, "--norc", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stderr == "" and done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("line, offered", [
    ("lodge-oci ", VERBS),
    ("lodge-oci --root /nosuch re", ["restore", "resume"]),
    ("lodge-oci --log-f", ["--log-format"]),
    ("lodge-oci --log-format ", ["json", "text"]),
    ("lodge-oci --root d", ["directory"]),
    ("lodge-oci run --pid-file f", ["file"]),
    ("lodge-oci update --cpuset-", ["--cpuset-cpus", "--cpuset-mems"]),
    ("lodge-oci --root /nosuch kill box KI", []),
    ("lodge-oci --root /nosuch kill box SIGKI", ["SIGKILL"]),
    ("lodge-oci ps -f j", ["json"]),
    ("lodge-oci run ", []),
])
def test_bash(program, tmp_path, line, offered):
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    assert bash_offers(program, line, tmp_path) == offered


def test_containers_are_offered(container, program, tmp_path):  # noqa: F811
    container.start("sleep", "1000")
    for verb in ("state", "exec", "delete --force"):
        assert bash_offers(program, f"lodge-oci --root {container.state} {verb} ", tmp_path) == [container.name]


def test_zsh(program, tmp_path):
    """zsh's own machinery is on a terminal; here its function runs with what that would call replaced."""
    zsh = need_command("zsh")
    script = (f'PATH="{os.path.dirname(program("lodge-oci"))}:$PATH"; compdef() {{ }}; compadd() {{ shift; print -l -- "$@" }}; '
              f'_files() {{ print files }}; source "{SCRIPTS}/_lodge-oci"; words=("${{(@)argv}}"); CURRENT=$#words; _lodge-oci')
    for line, offered in (("lodge-oci ''", VERBS), ("lodge-oci run --pid-file ''", ["files"]), ("lodge-oci ps -f ''", ["table", "json"])):
        done = subprocess.run([zsh, "-f", "-c", script, "zsh", *line.replace("''", " ").split(" ")[:-1]], capture_output=True, text=True,
                              timeout=PATIENCE_S)
        assert done.stderr == "" and sorted(done.stdout.split()) == sorted(offered), (line, done.stdout, done.stderr)


def test_every_option_is_in_the_help(program):
    """What the completion reads its options from names all that the sources take, but those that are there to be ignored."""
    ignored = {"no-pivot", "no-new-keyring", "no-subreaper", "kernel-memory", "kernel-memory-tcp", "lazy-pages"}
    sources = ROOT / "src" / "cmd"
    text = subprocess.run([program("lodge-oci"), "--help"], capture_output=True, text=True, check=True).stdout
    for file in sources.glob("oci_*.c"):
        for option in set(re.findall(r'\{"([a-z0-9-]+)", (?:required|no)_argument', file.read_text())) - ignored:
            assert f"--{option}" in text, f"{file.name}: --{option}"
    for verb in VERBS:
        done = subprocess.run([program("lodge-oci"), verb, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith(f"lodge-oci {verb}"), verb


def test_man_page_has_all_verbs_and_options(program):
    page = (ROOT / "docs" / "man" / "lodge-oci.8").read_text().replace("\\-", "-")
    text = subprocess.run([program("lodge-oci"), "--help"], capture_output=True, text=True, check=True).stdout
    for verb in VERBS:
        assert re.search(rf"^\.It Cm {verb}\b", page, re.M), verb
    for option in set(re.findall(r"--([a-z][a-z0-9-]+)", text)):
        assert re.search(rf"[ ]-{option}\b", page), option


def test_scripts_are_well_formed():
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", "-e", "SC2154", str(SCRIPTS / "lodge-oci")], check=True)
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n", str(SCRIPTS / "_lodge-oci")], check=True)
    assert Path(SCRIPTS / "_lodge-oci").read_text().startswith("#compdef lodge-oci\n")
