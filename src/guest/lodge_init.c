/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge-init: the first process inside a virtual machine.
 *
 *      kernel ──▶ main ──▶ modules ──▶ disk + overlay become "/" ──┬─▶ agent over vsock
 * (lodge.agent=) └─▶ command or shell on the console └─▶ sync, power off
 *
 * It is static and carries nothing beside it but kernel modules: the image may be empty of
 * everything. Started as an ordinary process, `lodge-init --agent SPEC` is the agent alone, in the
 * environment where it was started: how the protocol is tested without a machine.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "guest/agent.h"
#include "guest/init.h"
#include "guest/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static void block_sigchld(void)
{
    sigset_t children;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
}

static int read_params(struct init_params *ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf cmdline;
    int result;

    buf_init(&cmdline, 64 << 10);
    if ((result = file_load(AT_FDCWD, "/proc/cmdline", &cmdline, err)) < 0)
        return result;
    init_params_parse(buf_string(&cmdline) ?: "", ret);
    return 0;
}

static int prepare(const struct init_params *params, struct err *err)
{
    int result = init_load_modules(err);

    if (result == 0)
        result = init_switch_root(params, err);
    if (result == 0)
        result = init_mount_volumes(params, err);
    if (result == 0 && *params->disks)
        parts_link_disks();
    if (result == 0)
        result = init_loopback_up(err);
    if (result == 0)
        result = init_network_up(params->net, err);
    if (result == 0)
        result = init_network6_up(params->net6, err);
    if (result == 0)
        result = init_networks_up(params, err);
    return result;
}

/* Everything up to the end of the machine's purpose. */
static int boot(int argc, char **argv, struct err *err)
{
    struct init_params params;
    int result;

    if ((result = init_mount_early(err)) < 0 || (result = read_params(&params, err)) < 0)
        return result;
    if ((result = prepare(&params, err)) < 0) {
        if (*params.agent)
            agent_report_failure(params.agent, err);
        return result;
    }
    if (*params.agent) {
        block_sigchld();
        return agent_serve(params.agent, true, err);
    }
    if ((result = init_console_run(argc - 1, argv + 1, err)) < 0)
        return result;
    if (WIFSIGNALED(result))
        log_info("the command was ended by signal %d", WTERMSIG(result));
    else if (WEXITSTATUS(result))
        log_info("the command ended with status %d", WEXITSTATUS(result));
    return 0;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;

    log_init("lodge-init", LOG_LEVEL_INFO);
    if (getpid() != 1) {
        if (argc != 3 || strcmp(argv[1], "--agent") != 0) {
            fprintf(stderr, "lodge-init: this is the first process of a virtual machine; "
                            "as another process it takes --agent SPEC\n");
            return 2;
        }
        block_sigchld();
        if (agent_serve(argv[2], false, &err) < 0) {
            log_error("%s", err.message);
            return 1;
        }
        return 0;
    }
    if (boot(argc, argv, &err) < 0)
        log_error("%s", err.message);
    init_poweroff();
}
