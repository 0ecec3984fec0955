# SPDX-License-Identifier: Apache-2.0
"""No memory: every allocation of a verb fails in turn. The verb then says so or does without; it never crashes, and
`delete --force` removes what there is. LODGE_MALLOC_STEP=1 tries every allocation; the default is a sample, the same in every
run, that LODGE_SAMPLE=NUMBER moves."""
import os
import signal
import subprocess

import pytest

from patience import PATIENCE_S
from test_oci import rootfs  # noqa: F401 (a fixture)
from test_oci_killed import MARK, VERBS, Victim, first_of_sample

STEP = int(os.environ.get("LODGE_MALLOC_STEP", "31"))
NOTE = 9
CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL, 128 + signal.SIGSEGV, 128 + signal.SIGABRT,
           128 + signal.SIGBUS, 128 + signal.SIGFPE, 128 + signal.SIGILL}


@pytest.fixture
def victim(program, build, rootfs, tmp_path):  # noqa: F811
    if not (build / "tests" / "lodge-oci-failing-malloc").exists():
        pytest.skip("lodge-oci-failing-malloc is not built (the sanitizers bring an allocator of their own)")
    made = Victim(program("lodge-oci"), rootfs, tmp_path)
    made.write("sleep", MARK)
    made.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                                       "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
    made.write()
    return made


def attempt(victim, failing, arguments, number):
    """The verb with its `number`th allocation refused: its status, its errors, and whether that came to pass."""
    reader, writer = os.pipe()
    with open(victim.bundle / "errors", "w+") as errors:
        def prepare():
            os.dup2(writer, NOTE)
            os.set_inheritable(NOTE, True)

        status = subprocess.run(victim.command(*arguments, program=str(failing)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=errors, timeout=PATIENCE_S, preexec_fn=prepare, close_fds=False,
                                env={**os.environ, "LODGE_MALLOC_FAIL": str(number), "LODGE_MALLOC_NOTE": str(NOTE)}).returncode
        errors.seek(0)
        said = errors.read()
    os.close(writer)
    os.set_blocking(reader, False)
    try:
        refused = bool(os.read(reader, 10))
    except BlockingIOError:
        refused = False
    os.close(reader)
    return status, said, refused


@pytest.mark.parametrize("verb", VERBS)
def test_no_allocation_failure_crashes(victim, build, verb):
    failing = build / "tests" / "lodge-oci-failing-malloc"
    prepare, arguments = VERBS[verb]
    number, refusals, quiet = first_of_sample(STEP, verb), 0, 0
    while quiet < 3 and number < 20000:
        prepare(victim)
        status, said, refused = attempt(victim, failing, arguments(victim), number)
        what = f"{verb}, allocation {number}: {status} {said}"
        assert status not in CRASHES, what
        assert status == 0 or said, what
        victim.clean(what)
        refusals += refused
        quiet = 0 if refused else quiet + 1
        number += STEP
    assert refusals >= 1, "a verb of so few allocations proves nothing"
