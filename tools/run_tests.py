#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests and closes with one line: `N passed, N failed, N skipped`.

Stages: unit (the Check programs), diff (the CPU against the host CPU), system (pytest on the built programs), asan (all of
these in a build with AddressSanitizer and UndefinedBehaviorSanitizer), tsan (what has threads, with ThreadSanitizer), fuzz (each
fuzzer for a few seconds on its corpus). Without --only: all of them. As many tests run at once as --jobs says (the host's
processors): every test keeps to names, directories and cgroups of its own. A failure's output is printed where it happens; the
exit status is 1 when anything failed. System tests that failed beside others run once more, alone: one that passes then
depends on time, counts as passed and is named under "unsteady:" at the end, for somebody to find out why.
"""
import argparse
import concurrent.futures
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECK_LINE = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)
WAITING = 1  # system tests at once for each processor
AGAIN = 12  # so many failed system tests run once more, alone; more than that are no accident
SLOWEST = 12  # system tests that are named with their times, for whoever wants to shorten a run
SKIP_LINE = re.compile(r"^SKIP (.*)$", re.M)


class Tally:
    """Counts, and the reasons of everything skipped; how many tests run at once."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.passed = self.failed = self.skipped = 0
        self.reasons = []
        self.unsteady = []

    def add(self, passed=0, failed=0, skipped=0):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped


def say(text):
    print(text, flush=True)


def run(command, timeout, env=None):
    """Exit status and joined output; a time-out is status 124."""
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=timeout, env=env, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        return 124, (output.decode(errors="replace") if isinstance(output, bytes) else output) + "\n(time limit)"


def report(tally, name, status, output, seconds):
    """Tallies one test program's output."""
    checks = CHECK_LINE.findall(output)
    skips = SKIP_LINE.findall(output)
    total = sum(int(c[0]) for c in checks)
    bad = sum(int(c[1]) + int(c[2]) for c in checks)
    if status != 0:
        bad = max(bad, 1)
        total = max(total, bad)
        say(f"FAIL  {name} ({seconds:.1f} s, exit status {status})\n{output[-6000:]}")
    else:
        total = max(total, 1)
        note = f", {len(skips)} skipped" if skips else ""
        say(f"ok    {name} ({seconds:.1f} s, {total} checks{note})")
    tally.reasons += [f"{name}: {reason}" for reason in skips]
    tally.add(passed=max(total - bad - len(skips), 0), failed=bad, skipped=len(skips))


def introspect(build, what):
    status, output = run(["meson", "introspect", what, str(build)], 60)
    if status != 0:
        sys.exit(f"meson introspect failed:\n{output}")
    return json.loads(output)


def tests_of(build, suites):
    # Meson prefixes suites with the project's name.
    return [test for test in introspect(build, "--tests") if {s.split(":")[-1] for s in test["suite"]} & set(suites)]


def fuzzers_of(build):
    return [target["filename"][0] for target in introspect(build, "--targets") if target["name"].startswith("fuzz_")]


def guest_kernel(build):
    """For tests that load a real kernel: where `make guest` has put one."""
    path = Path(os.environ.get("LODGE_GUEST", build / "guest")) / "kernels" / "cloud" / "vmlinuz"
    return {"LODGE_TEST_KERNEL": str(path)} if path.exists() else {}


def each(jobs, work, items):
    """work(item) of every item, `jobs` at a time; the results come in the order of the items."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(work, items)


def timed(command, timeout, env=None):
    started = time.monotonic()
    status, output = run(command, timeout, env)
    return status, output, time.monotonic() - started


def run_programs(build, tally, suites, label="", env=None, factor=1):
    tests = tests_of(build, suites)
    if not tests:
        say(f"FAIL  {label}no test programs of {', '.join(suites)}: was the build configured without Check?")
        tally.add(failed=1)

    def one(test):
        merged = dict(os.environ, LODGE_BUILD=str(build), **guest_kernel(build), **test.get("env", {}), **(env or {}))
        return timed(test["cmd"], test["timeout"] * factor, merged)

    for test, result in zip(tests, each(tally.jobs, one, tests)):
        report(tally, label + test["name"], *result)


def pytest_cases(tests, workers, timeout, env):
    """Pytest's status, its output, and its test cases (None: it did not come to an end)."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-ra", "--color=no", "-p", "no:cacheprovider", f"--junitxml={result}", *tests]
        if workers > 1 and importlib.util.find_spec("xdist"):
            command += ["-n", str(workers), "--dist", "loadfile"]
        status, output = run(command, timeout, env)
        return status, output, list(ElementTree.parse(result).getroot().iter("testcase")) if result.exists() else None


def has_failed(case):
    return case.find("failure") is not None or case.find("error") is not None


def place_of(case):
    """A case's file (tests/system/test_x.py) and the test's name in it."""
    return case.get("classname").replace(".", "/") + ".py", case.get("name")


def passed_alone(cases, timeout, env):
    """Pytest's output, and the places that passed. The files run again whole: a module's tests share what they set up."""
    _, output, again = pytest_cases(sorted({place_of(case)[0] for case in cases}), 1, timeout, env)
    return output, {place_of(case) for case in again or [] if not has_failed(case) and case.find("skipped") is None}


def run_system(build, tally, label="", env=None, timeout=1500, tests="tests/system"):
    merged = dict(os.environ, LODGE_BUILD=str(build), **(env or {}))
    status, output, cases = pytest_cases([tests], WAITING * tally.jobs, timeout, merged)
    if cases is None:
        say(output)
        if status != 5:
            tally.add(failed=1)
        return
    failures = [case for case in cases if has_failed(case)]
    skips = [case for case in cases if not has_failed(case) and case.find("skipped") is not None]
    for case in skips:
        tally.reasons.append(f"{label}{case.get('name')}: {case.find('skipped').get('message')}")
    for case in sorted(cases, key=lambda case: -float(case.get("time")))[:SLOWEST]:
        say(f"      {float(case.get('time')):6.1f} s  {label}{case.get('classname').rpartition('tests.system.')[2]} {case.get('name')}")
    # Pytest's own closing line would read as ours.
    lines = [line for line in output.splitlines() if not re.match(r"^\d+ (passed|failed|skipped)", line)]
    say("\n".join(lines[-200:] if failures else lines[-12:]))
    failed = len(failures)
    if 0 < failed <= AGAIN:
        say(f"{label}{failed} failed: their files once more, alone")
        output, passed = passed_alone(failures, timeout, merged)
        unsteady = [f"{label}{' '.join(place_of(case))}" for case in failures if place_of(case) in passed]
        tally.unsteady += unsteady
        failed -= len(unsteady)
        if failed:
            say("\n".join(output.splitlines()[-200:-1]))
    tally.add(len(cases) - failed - len(skips), failed, len(skips))
    if status not in (0, 5) and not failures:
        tally.add(failed=1)


def configure(build, options, env=None, wanted=None):
    """A build directory of its own beside the main one. wanted(build): the programs to build there; None: everything."""
    merged = dict(os.environ, **(env or {}))
    if not (build / "build.ninja").exists():
        status, output = run(["meson", "setup", str(build)] + options, 300, merged)
        if status != 0:
            sys.exit(output)
    targets = wanted(build) if wanted else []
    status, output = run(["ninja", "-C", str(build)] + [os.path.relpath(target, build) for target in targets], 1500)
    if status != 0:
        sys.exit(output)


def stage_asan(build, tally):
    asan = Path(f"{build}-asan")
    configure(asan, ["-Db_sanitize=address,undefined", "-Db_lundef=false"])
    env = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:allocator_may_return_null=1",
           "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "LODGE_SANITIZED": "1",
           "LODGE_GUEST": str(build / "guest"), **guest_kernel(build)}
    run_programs(asan, tally, ["unit", "diff"], "asan: ", env, factor=6)
    run_system(asan, tally, "asan: ", env)


def stage_tsan(build, tally):
    tsan = Path(f"{build}-tsan")
    configure(tsan, ["-Db_sanitize=thread", "-Db_lundef=false"], {"CC": "clang"},
              lambda build: [test["cmd"][0] for test in tests_of(build, ["threads"])] + [build / "bin" / "lodged"])
    options = {"TSAN_OPTIONS": f"halt_on_error=1:suppressions={ROOT}/tests/tsan.supp"}
    run_programs(tsan, tally, ["threads"], "tsan: ", options, factor=6)
    # The manager alone is of that build: what it starts are the real shims and containers.
    programs = {"LODGE_TEST_LODGED": str(tsan / "bin" / "lodged"), **{f"LODGE_{name}": str(build / "bin" / program) for name, program in
                                                                      (("OCI", "lodge-oci"), ("SHIM", "lodge-shim"), ("PROGRAM", "lodge"))}}
    run_system(build, tally, "tsan: ", {**options, **programs}, tests="tests/system/test_manager_load.py")


def stage_fuzz(build, tally, seconds):
    fuzz = Path(f"{build}-fuzz")
    configure(fuzz, ["-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false"], {"CC": "clang"}, fuzzers_of)
    programs = [p for p in sorted((fuzz / "tests" / "fuzz").glob("fuzz_*")) if p.is_file() and os.access(p, os.X_OK)]

    def one(program):
        seeds = ROOT / "tests" / "fuzz" / "corpus" / program.name.removeprefix("fuzz_")
        with tempfile.TemporaryDirectory() as corpus:
            command = [str(program), f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=20",
                       f"-artifact_prefix={corpus}/", corpus]
            if seeds.is_dir():
                command.append(str(seeds))
            return timed(command, seconds + 120)

    for program, result in zip(programs, each(tally.jobs, one, programs)):
        report(tally, program.name, *result)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", type=Path)
    parser.add_argument("--only", choices=["unit", "diff", "system", "asan", "tsan", "fuzz"], action="append")
    parser.add_argument("--fuzz-seconds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    tally = Tally(max(arguments.jobs, 1))
    stages = {
        "unit": lambda: run_programs(build, tally, ["unit"]),
        "diff": lambda: run_programs(build, tally, ["diff"]),
        "fuzz": lambda: stage_fuzz(build, tally, arguments.fuzz_seconds),
        "asan": lambda: stage_asan(build, tally),
        "tsan": lambda: stage_tsan(build, tally),
        "system": lambda: run_system(build, tally),
    }
    for name, stage in stages.items():
        if arguments.only and name not in arguments.only:
            continue
        started = time.monotonic()
        say(f"== {name}")
        stage()
        say(f"== {name}: {time.monotonic() - started:.0f} s")
    if tally.reasons:
        say("skipped:")
        for reason in tally.reasons:
            say(f"  {reason}")
    if tally.unsteady:
        say("unsteady: failed beside other tests, passed alone:")
        for name in tally.unsteady:
            say(f"  {name}")
    say(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
