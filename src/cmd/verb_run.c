/* SPDX-License-Identifier: Apache-2.0 */
/* lodge run: one command in a container or in a virtual machine, from the same image. */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/programs.h"
#include "cmd/remote.h"
#include "cmd/managed.h"
#include "cmd/run.h"
#include "cmd/run_attachment.h"
#include "cmd/run_network.h"
#include "cmd/run_volumes.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <sys/signalfd.h>

/* What is passed on to the command (and SIGWINCH, which becomes a new window size). */
static const int forwarded[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
                                SIGUSR2, SIGALRM, SIGCONT, SIGWINCH};

/* Before any thread or process is started: all of them inherit it. */
static int open_signals(struct err *err)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
        sigaddset(&set, forwarded[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if ((fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return err_errno(err, -errno, "signalfd");
    return fd;
}

static int check_terminal(const struct run_options *options, struct err *err)
{
    if (options->tty && options->stdin_open && !isatty(STDIN_FILENO))
        return err_set(err, -ENOTTY,
                       "-t with -i needs a terminal as standard input; leave out -t to "
                       "pipe data in");
    return 0;
}

/* Inside: everything is open; one of the two isolations takes over. */
static int run_isolated(struct run_context *context, const char *oci_program, int *ret_status,
                        struct err *err)
{
    const struct run_options *options = context->options;
    struct launch_request request = {.argv = options->command,
                                     .env = options->env,
                                     .nr_env = options->nr_env,
                                     .cwd = options->cwd,
                                     .user = options->user,
                                     .term = options->tty ? getenv("TERM") ?: "xterm" : NULL};
    struct launch_command command;
    int result = launch_command_build(&request, context->image, &command, err);

    if (result < 0)
        return result;
    context->command = &command;
    if (run_network_is_named(context->options->network) &&
        (result = run_attachment_new(context, &context->attachment, err)) < 0) {
        launch_command_done(&command);
        return result;
    }
    result = context->options->vm ? run_vm(context, ret_status, err)
                                  : run_container(context, oci_program, ret_status, err);
    run_attachment_free(context->attachment);
    launch_command_done(&command);
    return result;
}

static int run_image(struct run_options *options, int *ret_status, struct err *err)
{
    CLEANUP(freep) struct store *store = calloc(1, sizeof(*store));
    CLEANUP(freep) struct image *image = calloc(1, sizeof(*image));
    CLEANUP(freep) struct run_dir *dir = calloc(1, sizeof(*dir));
    char oci_program[PATH_MAX] = "";
    struct run_context context = {.options = options, .store = store, .image = image, .dir = dir};
    struct run_volumes *volumes = NULL;
    struct err no_oci = ERR_INIT;
    int result;

    if (!store || !image || !dir)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = check_terminal(options, err)) < 0 || (result = store_open(store, err)) < 0 ||
        (result = image_open(store, options->image, image, err)) < 0)
        return result;
    /* A VM needs no container runtime, but a sweep of dead runs may. */
    result = program_find(store, "lodge-oci", "LODGE_OCI", oci_program, &no_oci);
    if (result < 0 && !options->vm) {
        image_done(image);
        return err_set(err, result, "%s", no_oci.message);
    }
    if (result < 0)
        oci_program[0] = '\0';
    if ((context.signal_fd = result = open_signals(err)) >= 0 &&
        (result = run_dir_create(options->name, oci_program, dir, err)) == 0) {
        context.hostname = options->hostname ? options->hostname : dir->id;
        result = run_volumes_take(options, dir, &volumes, err);
        if (result == 0)
            result = run_isolated(&context, oci_program, ret_status, err);
        run_volumes_release(volumes);
        run_dir_done(dir);
    }
    image_done(image);
    return result;
}

static int run(int argc, char **argv)
{
    struct run_options options;
    struct err err = ERR_INIT;
    int status = CLI_EXIT_FAILURE, result;

    if (run_options_parse(&options, argc, argv, &err) < 0) {
        if (err.code == -EOPNOTSUPP) {
            log_error("%s", err.message);
            return CLI_EXIT_FAILURE;
        }
        cli_usage_error(&verb_run, "%s", err.message);
        return CLI_EXIT_FAILURE;
    }
    if (!options.managed && remote_is_set()) /* leaves nothing there either */
        options.managed = options.remove = true;
    /* Ordinary users' containers are made in one way alone, the manager's. */
    if (!options.managed && !options.vm && geteuid() != 0)
        options.managed = options.remove = true;
    if (options.managed)
        result = run_managed(&options, &status, &err);
    else
        result = run_image(&options, &status, &err);
    if (result < 0)
        log_error("%s", err.message);
    run_options_done(&options);
    return status;
}

const struct cli_verb verb_run = {
    .name = "run",
    .summary = "Runs a command in a container or a virtual machine",
    .usage = "run [--vm] [options] IMAGE|ROOTFS-DIR [CMD [ARG...]]",
    .help =
        "IMAGE is one of `lodge images`; a ROOTFS-DIR has a '/' in its name. Without CMD the "
        "image's\n"
        "own is run. What it writes goes to a layer in memory and is gone at its end.\n"
        "\n"
        "  --vm                 in a virtual machine; without it, in a container\n"
        "  --engine ENGINE      auto (default), kvm, or soft: Lodge's own processor\n"
        "  --kernel KERNEL      guest kernel: cloud (default), generic, rt, or a path\n"
        "  --net NETWORK        none (default), the NAME of one (lodge network), or user:\n"
        "                       behind this host, without any rights; then also\n"
        "                       user,hostfwd=tcp:127.0.0.1:8080-:80\n"
        "  -p, --publish [ADDR:]PORT:GUESTPORT[/udp]  a port of this host leads to the guest's\n"
        "  --ip ADDRESS         its IPv4 address on the network (a free one)\n"
        "  --cpus N             vCPUs of a VM (1); CPU time of a container (no limit)\n"
        "  -m, --memory SIZE    memory, such as 512M or 2G; VM: 512M, container: no limit\n"
        "  -e, --env K=V        environment; -e K passes ours on; may be repeated\n"
        "  -v, --volume SRC:DST[:ro]  a directory or file of the host, or a volume's name\n"
        "  -w, --workdir DIR    working directory\n"
        "  -u, --user USER      user, or user:group, by name or number\n"
        "  -i, --interactive    pass our standard input on\n"
        "  -t, --tty            give the command a terminal\n"
        "  --name NAME          its name; -h, --hostname NAME  its host name\n"
        "  --root-layer FILE    what a VM writes to its root is kept in FILE (made if need be)\n"
        "  --agent              the command is one of the VM's agent: lodge-run(1)\n"
        "  --profile FILE       where a VM's soft processor spends its time: FILE, FILE.svg\n"
        "  --symbols FILE       names of guest functions for it; may be repeated\n"
        "  --balloon            of a virtual machine: unneeded memory goes back to the host\n"
        "  --hotplug            of a virtual machine: disks and networks may come to it later\n"
        "  --join NAME          of a virtual machine: one network more than that of --net\n"
        "  --disk SERIAL,raw|qcow2[,ro],PATH   of a virtual machine: one more disk\n"
        "  -q, --quiet          no word of our own unless something fails\n"
        "\n"
        "With any of these the manager has it (lodge ps, logs, stop, ...), and it is kept after "
        "its\n"
        "end, what it has written too:\n"
        "  -d, --detach         do not wait for it: print its id\n"
        "  --rm                 remove it when it ends\n"
        "  -l, --label K=V      may be repeated\n"
        "  --restart POLICY     no, on-failure[:N], always, unless-stopped\n"
        "  --health-cmd COMMAND by the shell, every --health-interval SECONDS (30)\n"
        "  --health-timeout SECONDS (30), --health-retries N (3), --health-start-period SECONDS\n"
        "                       of one check; failures in a row; failures that do not count\n"
        "  --cpu-shares N, --pids N, --io-weight N\n"
        "  --stop-signal SIGNAL, --stop-timeout SECONDS\n"
        "  --in ENVIRONMENT     shares its quota; see lodge help env\n"
        "  --priority N, --alpha N, --beta N\n"
        "                       its weight where processors are scarce\n"
        "  --cpu-max N          at most so many processors of the host (0.5)\n"
        "  --cpuset LIST        the processors it may use (0-1,4)\n"
        "  --reserve-cpu N, --reserve-memory SIZE\n"
        "                       guaranteed to it; refused where it cannot be\n"
        "\n"
        "The exit status is the command's; 128 + N when signal N ended it; 127 not found, 126 not "
        "to\n"
        "be run, 125 lodge itself failed. Signals are passed on; the third Ctrl-C ends a VM.\n",
    .run = run,
};
