/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM put together, in this order, because each step needs rights that a later one gives up:
 *
 *   files     kernel, modules, /dev/kvm, disks, control socket    (open by name)
 *   assembly  machine, devices, console
 *   jail      no capabilities, system call filter
 *   boot      the kernel file is parsed and unpacked, then the vCPUs run
 *
 * The main thread then sleeps in its loop: signals, standard input, control socket, and `ended`.
 * Devices run on a second loop's thread, so that they answer while this one waits for vCPUs.
 */
#include "vmm/vmm.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "kvm/kvm.h"
#include "soft/soft.h"
#include "vmm/boot_disk.h"
#include "vmm/commands.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/devices.h"
#include "vmm/jail.h"
#include "vmm/profile.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

struct vmm {
    const struct vmm_config *config;
    struct loop *loop;
    struct boot_source source;
    struct boot_choice boot;
    const struct cpu_engine *engine;
    char engine_options[128];
    int kvm_fd;
    int signal_fd;
    sigset_t signals, old_signals;
    struct loop_fd *signal_watch;
    struct console *console;
    struct control *control;
    struct devices devices;
    struct hotplug hotplug;
    struct machine *machine;
    struct profile *profile;
    struct vm vm;
    bool vm_made, vm_runs;
    struct commands commands;
    int status; /* exit status, once the loop has ended; negative errno: start failed */
    struct err *err;
};

static int file_open(const char *path, const char *what, int *ret_fd, struct err *err)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st))
        return err_errno(err, -errno, "%s '%s'", what, path);
    if (S_ISDIR(st.st_mode))
        return err_errno(err, -EISDIR, "%s '%s'", what, path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int files_open(struct vmm *v, struct err *err)
{
    const struct vmm_config *config = v->config;
    int r = boot_choose(config, &v->boot, err);

    if (r < 0)
        return r;
    if (v->boot.from_disk) {
        v->source.kernel = (struct boot_file){.path = v->boot.what, .fd = v->boot.kernel_fd};
        v->source.cmdline = v->boot.cmdline;
        if (v->boot.initrd_fd >= 0)
            v->source.modules[v->source.nr_modules++].file =
                (struct boot_file){.path = v->boot.what, .fd = v->boot.initrd_fd};
        return 0;
    }
    v->source.kernel.path = config->kernel;
    v->source.cmdline = config->cmdline ? config->cmdline : VMM_CMDLINE_DEFAULT;
    r = file_open(config->kernel, "kernel", &v->source.kernel.fd, err);
    for (unsigned i = 0; r == 0 && i < config->nr_modules; i++) {
        struct boot_module *module = &v->source.modules[i];

        module->file.path = config->modules[i].path;
        module->cmdline = config->modules[i].cmdline;
        r = file_open(config->modules[i].path, i ? "module" : "initrd", &module->file.fd, err);
        if (r == 0)
            v->source.nr_modules++;
    }
    return r;
}

static void files_close(struct vmm *v)
{
    if (v->source.kernel.fd > 0)
        close(v->source.kernel.fd);
    for (unsigned i = 0; i < v->source.nr_modules; i++)
        close(v->source.modules[i].file.fd);
    if (v->kvm_fd >= 0)
        close(v->kvm_fd);
}

static int engine_pick(struct vmm *v, struct err *err)
{
    struct err why = ERR_INIT;
    int r;

    if (v->config->engine != VMM_ENGINE_SOFT) {
        r = kvm_engine.probe(&why);
        if (r == 0 || v->config->engine == VMM_ENGINE_KVM)
            v->engine = &kvm_engine;
        if (r == 0)
            log_info("engine kvm");
        else if (v->engine) /* asked for by name: small guests may do */
            log_warning("engine kvm, although %s", why.message);
    }
    if (!v->engine) {
        r = soft_engine.probe(err);
        if (r < 0) {
            err_wrap(err, "engine soft");
            return r;
        }
        v->engine = &soft_engine;
        log_info("engine soft%s%s", why.message[0] ? ": " : "", why.message);
        err_clear(&why);
        if (soft_translates(&why) < 0)
            log_warning("engine soft interprets, several times slower than it could: %s",
                        why.message);
    }
    if (v->config->engine_options)
        snprintf(v->engine_options, sizeof(v->engine_options), "%s", v->config->engine_options);
    if (v->engine != &kvm_engine)
        return 0;
    /* A reboot makes the engine's VM anew, when opening by name is no longer possible. */
    v->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (v->kvm_fd < 0)
        return err_errno(err, -errno, "open /dev/kvm");
    snprintf(v->engine_options, sizeof(v->engine_options), "fd=%d", v->kvm_fd);
    return 0;
}

/* Guest events: on a vCPU's thread. */
static void guest_power_off(void *context)
{
    struct vmm *v = context;

    vm_end(&v->vm, VM_END_POWER_OFF, 0);
}

static void guest_reset(void *context)
{
    struct vmm *v = context;

    vm_end(&v->vm, VM_END_RESET, 0);
}

static void guest_exit_code(void *context, int status)
{
    struct vmm *v = context;

    vm_end(&v->vm, VM_END_EXIT_PORT, status & 0xff);
}

static void guest_ejected(void *context, unsigned slot)
{
    struct vmm *v = context;

    hotplug_ejected(&v->hotplug, slot);
}

static void serial_output(void *context, const void *data, size_t length)
{
    struct vmm *v = context;

    if (v->console)
        console_output(v->console, data, length);
}

static void serial_room(void *context)
{
    struct vmm *v = context;

    if (v->console && v->config->console == VMM_CONSOLE_STDIO)
        console_input_ready(v->console);
}

static size_t terminal_input(void *context, const void *data, size_t length)
{
    struct vmm *v = context;

    if (v->devices.console)
        return devices_console_input(&v->devices, data, length);
    return machine_serial_input(v->machine, data, length);
}

static void terminal_quit(void *context)
{
    struct vmm *v = context;

    vm_end(&v->vm, VM_END_ASKED, 0);
}

static int console_make(struct vmm *v, struct err *err)
{
    struct console_functions functions = {
        .context = v, .input = terminal_input, .quit = terminal_quit};

    if (v->config->console == VMM_CONSOLE_NONE)
        return 0;
    return console_new(v->loop, &functions, true, &v->console, err);
}

static int machine_make(struct vmm *v, struct err *err)
{
    struct machine_config config = {
        .nr_cpus = (unsigned)v->config->nr_cpus,
        .memory_bytes = v->config->memory_bytes,
        .tsc_hz = cpu_host_tsc_hz(),
        .engine_irqchip = v->engine->irq_line != NULL,
        .serial = true,
        .exit_port = v->config->exit_port,
        .debug_console = v->config->debug_console,
        .nr_virtio = devices_count(v->config),
        .serial_functions = {v, serial_output, serial_room},
        .hotplug = v->config->hotplug,
        .events = {v, guest_power_off, guest_reset, guest_exit_code, guest_ejected},
    };

    if (config.nr_virtio > MACHINE_VIRTIO_MAX)
        return err_set(err, -E2BIG, "more than %d virtio devices", MACHINE_VIRTIO_MAX);
    for (unsigned i = 0; i < config.nr_virtio; i++)
        config.virtio[i] = machine_virtio_window(i);
    return machine_new(&config, &v->machine, err);
}

static void window_size_pass(struct vmm *v)
{
    struct winsize size;

    if (v->devices.console && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
        devices_console_resize(&v->devices, size.ws_col, size.ws_row);
}

static void signal_event(void *context, uint32_t events)
{
    struct vmm *v = context;
    struct signalfd_siginfo info;

    (void)events;
    while (read(v->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGWINCH)
            window_size_pass(v);
        else
            vm_end(&v->vm, VM_END_SIGNAL, (int)info.ssi_signo);
    }
}

/* Before any thread is made: all of them inherit the mask. */
static int signals_block(struct vmm *v, struct err *err)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    sigemptyset(&v->signals);
    sigaddset(&v->signals, SIGTERM);
    sigaddset(&v->signals, SIGINT);
    sigaddset(&v->signals, SIGHUP);
    sigaddset(&v->signals, SIGWINCH);
    sigaction(SIGPIPE, &ignore, NULL);
    pthread_sigmask(SIG_BLOCK, &v->signals, &v->old_signals);
    v->signal_fd = signalfd(-1, &v->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (v->signal_fd < 0)
        return err_errno(err, -errno, "take signals");
    return loop_fd_add(v->loop, v->signal_fd, EPOLLIN, signal_event, v, &v->signal_watch, err);
}

static int boot_and_start(struct vmm *v, struct err *err)
{
    struct cpu_state state;
    int r = machine_boot(v->machine, &v->source, &state, err);

    if (r == 0)
        r = vm_start(&v->vm, &state, err);
    v->vm_runs = r == 0;
    return r;
}

static int reboot(struct vmm *v, struct err *err)
{
    devices_reset(&v->devices, v->machine);
    machine_reset(v->machine);
    v->commands.reboots++;
    return boot_and_start(v, err);
}

/* The exit status for the end that the VM has come to; says what there is to say. */
static int end_status(const struct vm *vm)
{
    switch (vm->end) {
    case VM_END_EXIT_PORT:
        return vm->end_value;
    case VM_END_RESET:
        log_info("the guest reset itself");
        return VMM_EXIT_RESET;
    case VM_END_TRIPLE_FAULT:
        log_error("the guest stopped: %s", vm->report);
        return VMM_EXIT_TRIPLE_FAULT;
    case VM_END_UNSUPPORTED:
        log_error("the guest stopped: %s", vm->report);
        return VMM_EXIT_UNSUPPORTED;
    case VM_END_ENGINE:
        log_error("the %s engine failed: %s", vm->engine->name, vm->report);
        return VMM_EXIT_ENGINE;
    case VM_END_SIGNAL:
        return 128 + vm->end_value;
    default:
        return 0;
    }
}

/* On the loop's thread, after vm_end. */
static void vm_ended(void *context)
{
    struct vmm *v = context;
    int r = 0;

    /* A vCPU that waits for the reader of the console must not keep the VM. */
    if (v->console && (v->vm.end != VM_END_RESET || v->config->on_reset == VMM_ON_RESET_EXIT))
        console_abandon(v->console);
    vm_join(&v->vm);
    v->vm_runs = false;
    if (v->vm.end == VM_END_RESET && v->config->on_reset == VMM_ON_RESET_REBOOT) {
        r = reboot(v, v->err);
        if (r == 0)
            return;
        err_wrap(v->err, "reboot");
    }
    v->status = r < 0 ? r : end_status(&v->vm);
    loop_stop(v->loop);
}

static int assemble(struct vmm *v, struct err *err)
{
    const struct vmm_config *config = v->config;
    int r;

    if ((r = devices_fork(&v->devices, config, err)) < 0 || (r = loop_new(&v->loop, err)) < 0 ||
        (r = signals_block(v, err)) < 0 || (r = files_open(v, err)) < 0 ||
        (r = engine_pick(v, err)) < 0 ||
        (r = profile_new(config, v->engine, &v->profile, err)) < 0 ||
        (r = devices_open(&v->devices, config, err)) < 0 || (r = console_make(v, err)) < 0 ||
        (r = machine_make(v, err)) < 0)
        return r;
    vm_init(&v->vm, v->loop, v->machine, v->engine, v->engine_options[0] ? v->engine_options : NULL,
            (unsigned)config->nr_cpus, vm_ended, v);
    v->vm.profile = v->profile;
    v->vm_made = true;
    v->commands = (struct commands){.vm = &v->vm,
                                    .devices = &v->devices,
                                    .hotplug = &v->hotplug,
                                    .started_ns = clock_monotonic_ns()};
    hotplug_init(&v->hotplug, config, &v->devices, v->machine, v->loop);
    if ((r = hotplug_prepare(config, err)) == 0)
        r = devices_attach(&v->devices, config, v->machine, v->console, err);
    hotplug_take(&v->hotplug);
    if (r == 0 && config->control)
        r = control_new(v->loop, config->control, commands_run, &v->commands, &v->control, err);
    v->commands.control = v->control;
    return r;
}

static int enter_jail(const struct vmm *v, struct err *err)
{
    struct jail_needs needs = {.kvm = v->engine == &kvm_engine,
                               .profile = v->profile,
                               .tap = v->config->hotplug || v->config->places,
                               .sockets = v->config->hotplug};

    for (unsigned i = 0; i < v->config->nr_nets; i++) {
        needs.tap |= v->config->nets[i].kind == VMM_NET_TAP;
        needs.sockets |= v->config->nets[i].kind == VMM_NET_USER;
    }
    return jail_enter(&needs, err);
}

static void say_ready(int fd)
{
    if (fd < 0)
        return;
    (void)!write(fd, "1", 1);
    close(fd);
}

static int run(struct vmm *v, struct err *err)
{
    int r = assemble(v, err);

    if (r == 0 && v->config->jail)
        r = enter_jail(v, err);
    if (r == 0)
        r = devices_start(&v->devices, err);
    if (r == 0)
        r = boot_and_start(v, err);
    if (r == 0 && v->console)
        r = console_start(v->console, err);
    if (r < 0)
        return r;
    say_ready(v->config->ready_fd);
    window_size_pass(v);
    r = loop_run(v->loop);
    return r < 0 ? err_errno(err, r, "event loop") : v->status;
}

static void take_down(struct vmm *v)
{
    struct err profile_err = ERR_INIT;

    if (v->vm_runs) {
        vm_end(&v->vm, VM_END_ASKED, 0);
        if (v->console)
            console_abandon(v->console);
        vm_join(&v->vm);
    }
    if (profile_write(v->profile, &profile_err) < 0)
        log_error("%s", profile_err.message);
    profile_free(v->profile);
    control_free(v->control);
    hotplug_done(&v->hotplug);
    devices_free(&v->devices);
    if (v->vm_made)
        vm_done(&v->vm);
    machine_free(v->machine);
    loop_fd_remove(v->signal_watch);
    if (v->signal_fd >= 0)
        close(v->signal_fd);
    files_close(v);
    /* From here a signal ends the process at once: it may be what ends the wait for the reader. */
    if (v->console)
        console_input_stop(v->console);
    pthread_sigmask(SIG_SETMASK, &v->old_signals, NULL);
    if (v->console)
        console_flush(v->console, v->vm.end == VM_END_SIGNAL ? 1000 : -1);
    console_free(v->console);
    if (v->loop)
        loop_free(v->loop);
}

int vmm_run(const struct vmm_config *config, struct err *err)
{
    struct vmm v = {.config = config, .kvm_fd = -1, .signal_fd = -1, .err = err};
    int r = vmm_config_check(config, err);

    if (r == 0 && config->jail)
        r = jail_prepare(config->ready_fd, err);
    if (r < 0)
        return r;
    r = run(&v, err);
    take_down(&v);
    return r;
}
