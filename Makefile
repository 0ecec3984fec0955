# SPDX-License-Identifier: Apache-2.0
# The front door. Meson does the work; programs land in build/bin/.
BUILD  ?= build
PYTHON ?= /usr/bin/python3
export PYTHON

.PHONY: all guest torture boot-disk demo test unit system diff fuzz lint asan tsan bench bench-cpu bench-manager bench-policy bench-model install clean help

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@meson setup $(BUILD)

# Kernels and images for the guests, from the distribution's packages. Quick when they are there already.
guest: all
	@tools/prepare_guest.sh $(BUILD)

# The image of tests/system/test_torture.py, which skips where it cannot be made.
torture: all
	@tools/make_images.sh --store $(BUILD)/guest torture || echo 'make: no torture image: its tests will be skipped'

# The disk of tests/system/test_boot_disk.py, with a kernel of its own. The files on it belong to their owners: root makes it.
boot-disk: all
	@[ "$$(id -u)" != 0 ] || tools/make_disk.sh --store $(BUILD)/guest debian || echo 'make: no boot disk: its test will be skipped'

demo: all
	@tools/prepare_guest.sh $(BUILD) cloud
	@tools/demo.sh $(BUILD)

test: all
	@$(MAKE) --no-print-directory -j2 guest torture boot-disk
	@$(PYTHON) tools/run_tests.py --build $(BUILD)

unit: all
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --only unit

system: guest
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --only system

diff: all
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --only diff

fuzz:
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --only fuzz

lint:
	@tools/lint.sh $(BUILD)

# All tests under AddressSanitizer and UndefinedBehaviorSanitizer, in a build of its own.
asan: guest
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --only asan

tsan:
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --only tsan

bench: guest
	@tools/bench.sh $(BUILD)

# make bench-cpu [ROWS=lua,getppid] [ROUNDS=5] [ARGS=...]: the software CPU beside TCG and the bare host; bench/cpu.py says more
bench-cpu: all
	@$(PYTHON) bench/cpu.py --build $(BUILD) $(if $(ROWS),--rows '$(ROWS)') $(if $(ROUNDS),--rounds '$(ROUNDS)') $(ARGS)

# The container runtime beside crun and runc. Needs root.
bench-oci: all
	@bench/oci.sh $(BUILD)

# What allocation, job queues, placement and balancing cost; then what containers and VMs really get (root).
bench-policy: guest
	@bench/policy.sh $(BUILD)
	@LODGE_HOME=$(abspath $(BUILD))/guest $(PYTHON) bench/shares.py --build $(BUILD)
	@LODGE_HOME=$(abspath $(BUILD))/guest $(PYTHON) bench/jobs.py --build $(BUILD)

# The planner's simulators beside SimPy, and a fitted model against a container that serves (needs root, and a quiet host).
bench-model: all
	@bench/model.sh $(BUILD) --real $(ARGS)

# The manager's bars: make bench-manager [ARGS='--rows run,clients --seconds 20']. Needs root.
bench-manager: guest
	@bench/manager.sh $(BUILD) $(ARGS)

# make install [PREFIX=/usr] [DESTDIR=/tmp/package]
install: all
	@[ -z '$(PREFIX)' ] || meson configure $(BUILD) -Dprefix=$(PREFIX)
	@DESTDIR='$(DESTDIR)' meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz $(BUILD)-clang

help:
	@echo 'make            build everything into $(BUILD)/bin'
	@echo 'make demo       the same image as a container and as a VM, side by side'
	@echo 'make test       every test; also: unit, system, diff, fuzz, asan, tsan'
	@echo 'make lint       format, static analysis, a second compiler, folder edges'
	@echo 'make bench      the benchmarks; bench-cpu: the software CPU alone'
	@echo 'make install    into PREFIX (/usr/local), below DESTDIR'
