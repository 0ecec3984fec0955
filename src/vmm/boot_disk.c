/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program writes kernel and initial RAM disk into memory files of ours, and says on its
 * standard output what it found. They stay open: a reboot inside the VM boots the same kernel
 * again, since nothing can be opened or started then. The disk's lock is free again before the VM
 * takes it.
 */
#include "vmm/boot_disk.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM    "lodge-bootdisk"
#define ANSWER_MAX 16384
#define KERNEL_FD  "3"
#define INITRD_FD  "4"

int boot_order_check(const char *order, struct err *err)
{
    static const char *const known[] = {"disk", "cdrom", "kernel"};
    unsigned seen = 0;

    for (const char *word = order;; word++) {
        size_t length = strcspn(word, ","), i = 0;

        while (i < ARRAY_LEN(known) &&
               (strlen(known[i]) != length || strncmp(known[i], word, length) != 0))
            i++;
        if (i == ARRAY_LEN(known) || (seen & 1u << i))
            return err_set(
                err, -EINVAL,
                "boot order '%s': disk, cdrom and kernel, each once, with commas between", order);
        seen |= 1u << i;
        word += length;
        if (!*word)
            return 0;
    }
}

struct helper {
    int answer, kernel, initrd; /* descriptors */
    char program[PATH_MAX], device[8];
    char words[1 + BLOCK_BACKING_MAX][PATH_MAX + 8]; /* FORMAT:FILE */
    char *argv[16];
};

/* Beside our own program, or in ../libexec/lodge. */
static int find_program(struct helper *h, struct err *err)
{
    static const char *const below[] = {"/", "/../libexec/lodge/"};
    const char *given = getenv("LODGE_BOOTDISK");
    char dir[PATH_MAX - 64], *slash;
    ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

    if (given && *given) {
        snprintf(h->program, sizeof(h->program), "%s", given);
        return 0;
    }
    if (n < 0)
        return err_errno(err, -errno, "find our own program");
    dir[n] = '\0';
    if ((slash = strrchr(dir, '/')))
        *slash = '\0';
    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        snprintf(h->program, sizeof(h->program), "%s%s" PROGRAM, dir, below[i]);
        if (access(h->program, X_OK) == 0)
            return 0;
    }
    return err_set(err, -ENOENT, "the program " PROGRAM " is missing: it belongs into '%s'", dir);
}

/* First everything out of the way of 1, 3 and 4, then there. */
static _Noreturn void child_main(const struct helper *h)
{
    int answer = fcntl(h->answer, F_DUPFD, 10), kernel = fcntl(h->kernel, F_DUPFD, 10);
    int initrd = fcntl(h->initrd, F_DUPFD, 10), null = open("/dev/null", O_RDONLY);
    static char *const env[] = {NULL};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(null, STDIN_FILENO) < 0 || dup2(answer, STDOUT_FILENO) < 0 || dup2(kernel, 3) < 0 ||
        dup2(initrd, 4) < 0)
        _exit(127);
    close_range(5, ~0u, 0);
    execve(h->program, h->argv, env);
    _exit(127);
}

static const char *format_name(enum block_format format)
{
    return format == BLOCK_FORMAT_QCOW2 ? "qcow2" : "raw";
}

static void fill(struct helper *h, const struct vmm_disk *disk, unsigned index)
{
    size_t nr = 0;

    snprintf(h->device, sizeof(h->device), "vd%c", 'a' + (char)(index % 26));
    snprintf(h->words[0], sizeof(h->words[0]), "%s:%s", format_name(disk->format), disk->path);
    h->argv[nr++] = h->program;
    h->argv[nr++] = h->device;
    h->argv[nr++] = h->words[0];
    for (unsigned i = 0; i < disk->nr_backing; i++) {
        snprintf(h->words[i + 1], sizeof(h->words[0]), "%s:%s",
                 format_name(disk->backing_formats[i]), disk->backing[i]);
        h->argv[nr++] = h->words[i + 1];
    }
    h->argv[nr++] = (char *)(uintptr_t) "--kernel";
    h->argv[nr++] = (char *)(uintptr_t)KERNEL_FD;
    h->argv[nr++] = (char *)(uintptr_t) "--initrd";
    h->argv[nr++] = (char *)(uintptr_t)INITRD_FD;
    h->argv[nr] = NULL;
}

static int run_program(struct helper *h, char *answer, size_t size, struct err *err)
{
    int fds[2], status = 0;
    ssize_t n;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, -errno, "pipe");
    h->answer = fds[1];
    if ((pid = fork()) == 0)
        child_main(h);
    close(fds[1]);
    n = pid < 0 ? -1 : file_read_full(fds[0], answer, size - 1);
    close(fds[0]);
    if (pid < 0)
        return err_errno(err, -errno, "start " PROGRAM);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    answer[n > 0 ? n : 0] = '\0';
    if (WIFSIGNALED(status))
        return err_set(err, -EIO,
                       "what reads the disk was stopped by signal %d: its contents are not "
                       "what they should be",
                       WTERMSIG(status));
    if (!*answer)
        return err_set(err, -EIO, "what reads the disk said nothing (status %d)",
                       WEXITSTATUS(status));
    return 0;
}

/* The guest's own arguments; a console where ours is, unless it has one; then the user's. */
static int build_cmdline(const struct vmm_config *config, const char *own, struct boot_choice *ret,
                         struct err *err)
{
    const char *console = "";

    if (!strstr(own, "console=") && !(config->cmdline && strstr(config->cmdline, "console=")))
        console = config->console == VMM_CONSOLE_VIRTIO ? " console=hvc0" : " console=ttyS0";
    if (snprintf(ret->cmdline, sizeof(ret->cmdline), "%s%s%s%s", own, console,
                 config->cmdline ? " " : "",
                 config->cmdline ? config->cmdline : "") >= (int)sizeof(ret->cmdline))
        return err_set(err, -E2BIG, "its kernel command line is too long");
    return 0;
}

static int read_answer(const struct vmm_config *config, const struct vmm_disk *disk,
                       const char *answer, struct boot_choice *ret, struct err *err)
{
    const char *error = NULL, *kernel = "", *cmdline = "", *from = "";
    struct json_at root;
    json_t *document;
    int r = json_parse(answer, strlen(answer), PROGRAM, &document, err);

    if (r < 0)
        return r;
    json_at_root(document, &root);
    if ((r = json_opt_string(&root, "error", &error, err)) == 0 && error)
        r = err_set(err, -ENOENT, "%s", error);
    else if ((r = json_get_string(&root, "kernel", &kernel, err)) == 0 &&
             (r = json_get_string(&root, "cmdline", &cmdline, err)) == 0 &&
             (r = json_get_string(&root, "from", &from, err)) == 0) {
        snprintf(ret->what, sizeof(ret->what), "'%.160s' of '%.160s' (%.160s)", kernel, disk->path,
                 from);
        r = build_cmdline(config, cmdline, ret, err);
    }
    json_decref(document);
    return r;
}

static int try_disk(const struct vmm_config *config, unsigned index, struct boot_choice *ret,
                    struct err *err)
{
    CLEANUP(freep) struct helper *h = calloc(1, sizeof(*h));
    CLEANUP(freep) char *answer = malloc(ANSWER_MAX);
    CLEANUP(fd_closep) int kernel = memfd_create("kernel", MFD_CLOEXEC);
    CLEANUP(fd_closep) int initrd = memfd_create("initrd", MFD_CLOEXEC);
    struct stat st;
    int r;

    if (!h || !answer)
        return err_set(err, -ENOMEM, "no memory to hold a kernel");
    if (kernel < 0 || initrd < 0)
        return err_errno(err, -errno, "hold a kernel");
    h->kernel = kernel;
    h->initrd = initrd;
    fill(h, &config->disks[index], index);
    if ((r = find_program(h, err)) < 0 || (r = run_program(h, answer, ANSWER_MAX, err)) < 0 ||
        (r = read_answer(config, &config->disks[index], answer, ret, err)) < 0)
        return r;
    if (fstat(initrd, &st) < 0)
        return err_errno(err, -errno, "hold an initial RAM disk");
    ret->from_disk = true;
    ret->kernel_fd = TAKE_FD(kernel);
    ret->initrd_fd = st.st_size ? TAKE_FD(initrd) : -1;
    log_info("boots %s", ret->what);
    return 0;
}

static void add_reason(struct err *all, const char *what, const char *reason)
{
    size_t length = strlen(all->message);

    snprintf(all->message + length, sizeof(all->message) - length, "%s%s: %s", length ? "; " : "",
             what, reason);
}

/* What bootdisk/find.c knows, said once for all disks. */
#define LOOKED_FOR                                                                    \
    "; looked on each for grub.cfg, boot loader entries, isolinux.cfg, /vmlinuz and " \
    "/boot/vmlinuz-*"

/* Disks, or CDs, in their order. */
static int try_disks(const struct vmm_config *config, bool cdrom, struct boot_choice *ret,
                     struct err *reasons)
{
    unsigned nr = 0;

    for (unsigned i = 0; i < config->nr_disks; i++) {
        struct err why = ERR_INIT;

        if (config->disks[i].cdrom != cdrom)
            continue;
        nr++;
        if (try_disk(config, i, ret, &why) == 0)
            return 0;
        add_reason(reasons, config->disks[i].path, why.message);
    }
    if (nr == 0)
        add_reason(reasons, cdrom ? "cdrom" : "disk",
                   cdrom ? "the VM has no CD (--disk FILE,cdrom)" : "the VM has no disk");
    return -ENOENT;
}

int boot_choose(const struct vmm_config *config, struct boot_choice *ret, struct err *err)
{
    struct err reasons = ERR_INIT;

    *ret = (struct boot_choice){.kernel_fd = -1, .initrd_fd = -1};
    if (!config->boot)
        return 0;
    for (const char *word = config->boot; *word; word += *word == ',') {
        size_t length = strcspn(word, ",");

        if (*word == 'k' && config->kernel)
            return 0;
        if (*word == 'k')
            add_reason(&reasons, "kernel", "none is named (--kernel FILE)");
        else if (try_disks(config, *word == 'c', ret, &reasons) == 0)
            return 0;
        word += length;
    }
    return err_set(err, -ENOENT, "nothing to boot: %s%s", reasons.message,
                   strpbrk(config->boot, "cd") && config->nr_disks ? LOOKED_FOR : "");
}
