/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `lodge run --vm`: kernel, initramfs and disk image together, lodge-vmm started, the session
 * served.
 */
#include "cmd/run.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/programs.h"
#include "cmd/run_attachment.h"
#include "cmd/run_disks.h"
#include "cmd/run_network.h"
#include "cmd/run_shares.h"
#include "cmd/terminal.h"
#include "cmd/vm_session.h"
#include "image/disk.h"
#include "image/initramfs.h"
#include "image/layer.h"
#include "net/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <unistd.h>

#define VM_MEMORY_DEFAULT (512 * MIB)
#define VM_MEMORY_LEAST   (64 * MIB)
#define VM_CID            3
/* Generous: the slowest engine on a busy host. */
#define VM_BOOT_LIMIT_S 600

/* Nothing is printed while all goes well; a panic still is, and ends the VM. The self-tests of the
 * cryptographic code would be half of the boot on the interpreted processor. */
#define VM_CMDLINE "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests lodge.agent=vsock:1024"

/* As the user-mode network's router would say by DHCP (net/net.h). */
#define VM_CMDLINE_NET VM_CMDLINE " lodge.net=10.0.2.15/24,10.0.2.2"

/* The second disk, when there is one, has the writable layer. */
#define VM_LAYER_BYTES   (10 * GIB)
#define VM_LAYER_CMDLINE " lodge.rw=/dev/vdb"

struct vm_parts {
    char vmm[PATH_MAX], init[PATH_MAX];
    struct kernel kernel;
    char initramfs[PATH_MAX], disk[PATH_MAX], vsock[PATH_MAX], config[PATH_MAX];
    char control[PATH_MAX]; /* for `lodge stats` */
    uint64_t memory_bytes;
};

static int check_memory(const struct run_options *options, uint64_t *ret, struct err *err)
{
    uint64_t bytes = options->memory_bytes ? options->memory_bytes : VM_MEMORY_DEFAULT;
    struct sysinfo host;
    uint64_t total;

    if (sysinfo(&host) < 0)
        return err_errno(err, -errno, "look at the host's memory");
    total = (uint64_t)host.totalram * host.mem_unit;
    if (bytes < VM_MEMORY_LEAST)
        return err_set(err, -EINVAL,
                       "--memory of %llu KiB is too small for a virtual machine: at least "
                       "%llu MiB (default %llu MiB)",
                       (unsigned long long)(bytes / KIB),
                       (unsigned long long)(VM_MEMORY_LEAST / MIB),
                       (unsigned long long)(VM_MEMORY_DEFAULT / MIB));
    if (bytes > total)
        return err_set(err, -EINVAL, "--memory of %llu MiB is more than this host has (%llu MiB)",
                       (unsigned long long)(bytes / MIB), (unsigned long long)(total / MIB));
    *ret = align_up(bytes, 2 * MIB);
    return 0;
}

/* What a profile's samples are named by: the kernel's System.map where there is one, and what was
 * given. */
static void add_profile(const struct run_context *context, const struct vm_parts *parts,
                        json_t *config)
{
    const struct run_options *options = context->options;
    json_t *symbols = json_array();
    char map[PATH_MAX + 16];
    const char *slash = strrchr(parts->kernel.vmlinuz, '/');

    snprintf(map, sizeof(map), "%.*sSystem.map",
             slash ? (int)(slash + 1 - parts->kernel.vmlinuz) : 0, parts->kernel.vmlinuz);
    if (access(map, R_OK) == 0)
        json_array_append_new(symbols, json_string(map));
    else if (!options->quiet)
        log_info("no '%s': the profile's kernel functions have no names (tools/kernel_symbols.sh "
                 "makes it)",
                 map);
    for (size_t i = 0; i < options->nr_symbols; i++)
        json_array_append_new(symbols, json_string(options->symbols[i]));
    json_object_set_new(config, "symbols", symbols);
    json_object_set_new(config, "profile", json_string(options->profile));
}

static bool networked(const struct run_context *context)
{
    return strcmp(context->options->network, "none") != 0;
}

/* The modules beyond those that every guest has; NULL: none. At most MODULES_EXTRA. */
#define MODULES_EXTRA 3

static const char *const *extra_modules(const struct run_context *context,
                                        const char *storage[MODULES_EXTRA + 1])
{
    unsigned nr = 0;

    if (networked(context))
        storage[nr++] = "virtio_net";
    else if (context->options->hotplug)
        storage[nr++] = "+?virtio_net";
    if (run_shares_any(context->options))
        storage[nr++] = "virtiofs";
    if (context->options->balloon)
        storage[nr++] = "virtio_balloon";
    storage[nr] = NULL;
    return nr ? storage : NULL;
}

/* NULL: a port that cannot be (checked before), or no memory. */
static json_t *user_network(const struct run_options *options)
{
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, 1 << 16);
    return run_network_user_text(options, &text, NULL) < 0
               ? NULL
               : run_network_config(buf_string(&text) ?: "");
}

static int write_config(const struct run_context *context, const struct vm_parts *parts,
                        struct err *err)
{
    const struct run_options *options = context->options;
    char cmdline[1500];
    json_t *config;

    if (context->attachment)
        run_attachment_cmdline(context->attachment, VM_CMDLINE, cmdline, sizeof(cmdline));
    else
        snprintf(cmdline, sizeof(cmdline), "%s", networked(context) ? VM_CMDLINE_NET : VM_CMDLINE);
    if (options->root_layer)
        strncat(cmdline, VM_LAYER_CMDLINE, sizeof(cmdline) - strlen(cmdline) - 1);
    config = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:s, s:[{s:s, s:b}], s:s, s:s, s:s, s:{s:I, s:s}}", "kernel",
        parts->kernel.vmlinuz, "initrd", parts->initramfs, "cmdline", cmdline, "memory",
        (json_int_t)parts->memory_bytes, "cpus",
        (json_int_t)(options->nr_cpus ? options->nr_cpus : 1), "engine", options->engine, "disks",
        "path", parts->disk, "read_only", 1, "console", "stdio", "on_reset", "exit", "control",
        parts->control, "vsock", "cid", (json_int_t)VM_CID, "path", parts->vsock);
    if (config && options->root_layer)
        json_array_append_new(
            json_object_get(config, "disks"),
            json_pack("{s:s, s:s}", "path", options->root_layer, "format", "raw"));
    CLEANUP(freep) char *text = NULL;
    int result = config ? run_shares_config(options, config, err) : 0;

    if (result < 0 || (config && (result = run_disks_config(options, config, err)) < 0)) {
        json_decref(config);
        return result;
    }
    if (config && networked(context))
        json_object_set_new(config, "networks",
                            context->attachment ? run_attachment_config(context->attachment)
                                                : user_network(options));
    if (config && options->balloon)
        json_object_set_new(config, "balloon", json_true());
    if (config && options->hotplug)
        json_object_set_new(config, "places", json_true());
    if (config && options->profile)
        add_profile(context, parts, config);
    text = json_text(config, JSON_INDENT(2));
    json_decref(config);
    if (!text)
        return err_set(err, -ENOMEM, "write the VM's configuration (is a path not UTF-8?)");
    return file_replace(AT_FDCWD, parts->config, text, strlen(text), 0600, err);
}

static int prepare(const struct run_context *context, struct vm_parts *parts, struct err *err)
{
    const char *modules[MODULES_EXTRA + 1];
    bool built;
    int result;

    if ((result = check_memory(context->options, &parts->memory_bytes, err)) < 0 ||
        (result = program_find(context->store, "lodge-vmm", "LODGE_VMM", parts->vmm, err)) < 0 ||
        (result = program_find(context->store, "lodge-init", "LODGE_INIT", parts->init, err)) < 0 ||
        (result = kernel_open(context->store, context->options->kernel, &parts->kernel, err)) < 0 ||
        (result = initramfs_prepare(&parts->kernel, parts->init, extra_modules(context, modules),
                                    context->dir->path, parts->initramfs, err)) < 0 ||
        (result = disk_prepare(context->store, context->image, context->dir->path, parts->disk,
                               &built, err)) < 0 ||
        (context->options->root_layer &&
         (result = layer_prepare(context->options->root_layer, VM_LAYER_BYTES, err)) < 0) ||
        (result = run_dir_path(context->dir, "vsock", parts->vsock, err)) < 0 ||
        (result = run_dir_path(context->dir, "control", parts->control, err)) < 0 ||
        (result = run_dir_path(context->dir, "vm.json", parts->config, err)) < 0)
        return result;
    return write_config(context, parts, err);
}

/* Where the guest's connections to AGENT_PORT arrive: the vsock path, underscore, the port. */
static int listen_for_agent(const char *vsock_path, int *ret_fd, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return err_errno(err, -errno, "socket");
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", vsock_path, AGENT_PORT) >=
        (int)sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "the socket path '%s' is too long", vsock_path);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0)
        return err_errno(err, -errno, "listen at '%s'", address.sun_path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

struct ready {
    const struct run_options *options;
    struct vmm_process *vmm;
    int fd; /* of who started us and waits for the guest's command (a manager); -1: nobody does */
};

static struct ready ready_of(const struct run_options *options)
{
    const char *fd = getenv("LODGE_READY_FD");

    return (struct ready){.options = options, .fd = fd && *fd ? atoi(fd) : -1};
}

/* "1": it runs; "0" and the reason: it never will. The first word is the last. */
static void tell(struct ready *ready, const char *word, const char *why)
{
    char text[ERR_MESSAGE_MAX + 1];

    if (ready->fd < 0)
        return;
    snprintf(text, sizeof(text), "%s%s", word, why);
    (void)!write(ready->fd, text, strlen(text));
    fd_closep(&ready->fd);
    ready->fd = -1;
}

static void tell_started(void *context)
{
    tell(context, "1", "");
}

/* With --engine auto the choice is the monitor's; what it said about it is passed on. */
static void announce(const struct agent_info *info, void *context)
{
    struct ready *ready = context;
    char lines[1024], *line, *rest;

    (void)info;
    vmm_process_drain(ready->vmm);
    if (ready->options->quiet || strcmp(ready->options->engine, "auto") != 0)
        return;
    tail_last_lines(&ready->vmm->log, 8, "", lines, sizeof(lines));
    for (line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *text = strstr(line, "info: ");

        if (text && strstr(text, "engine"))
            log_info("%s", text + strlen("info: "));
    }
}

static int serve(const struct run_context *context, const struct vm_parts *parts, int listen_fd,
                 struct ready *ready, int *ret_status, struct err *err)
{
    const struct run_options *options = context->options;
    CLEANUP(freep) struct vmm_process *vmm = calloc(1, sizeof(*vmm));
    char resolv_conf[4096] = "";
    struct agent_run run = {.flags = (options->tty ? AGENT_RUN_TTY : 0) |
                                     (options->stdin_open ? AGENT_RUN_STDIN : 0) |
                                     (options->agent ? AGENT_RUN_BUILTIN : 0),
                            .cwd = context->command->cwd,
                            .user = context->command->user,
                            .hostname = context->hostname,
                            .resolv_conf = resolv_conf,
                            .argv = options->agent ? options->command : context->command->argv,
                            .env = context->command->env};
    struct vm_session_options session = {.listen_fd = listen_fd,
                                         .signal_fd = context->signal_fd,
                                         .run = &run,
                                         .raw_terminal = options->tty && options->stdin_open,
                                         .boot_limit_s = VM_BOOT_LIMIT_S,
                                         .on_ready = announce,
                                         .on_started = tell_started,
                                         .context = ready};
    int result;

    if (!vmm)
        return err_set(err, -ENOMEM, "out of memory");
    ready->vmm = vmm;
    if (context->attachment)
        run_attachment_resolver(context->attachment, resolv_conf, sizeof(resolv_conf));
    else if (networked(context))
        net_resolv_conf(resolv_conf, sizeof(resolv_conf));
    if (options->tty)
        terminal_size(&run.rows, &run.cols);
    if ((result = vmm_process_start(parts->vmm, parts->config, vmm, err)) < 0)
        return result;
    result = vm_session_serve(&session, vmm, ret_status, err);
    /* Its disk is read-only, and what a writable layer on a disk has to keep the agent has written
     * back before it said that the command ended. */
    vmm_process_stop(vmm);
    return result;
}

int run_vm(const struct run_context *context, int *ret_status, struct err *err)
{
    CLEANUP(freep) struct vm_parts *parts = calloc(1, sizeof(*parts));
    struct ready ready = ready_of(context->options);
    CLEANUP(fd_closep) int listen_fd = -1;
    int result;

    if (!parts)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = prepare(context, parts, err)) == 0 &&
        (result = listen_for_agent(parts->vsock, &listen_fd, err)) == 0)
        result = serve(context, parts, listen_fd, &ready, ret_status, err);
    if (result < 0)
        tell(&ready, "0", err->message);
    return result;
}
