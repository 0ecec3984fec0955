/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile qcow2 image: the input is the file, with a few bytes in front that say what is done
 * with it. Whatever the tables say, no access may leave our memory, nothing may run for ever, and
 * what is opened for reading may not change.
 */
#include "block/block.h"
#include "block/disk_file.h"
#include "block/qcow2_internal.h"

#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define STEPS 8

static int fd = -1;
static char path[64];
static uint8_t data[1 << 16];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    /* A table that points far away would make the file long; that is an error of the host's. */
    struct rlimit limit = {256u << 20, 256u << 20};

    (void)argc;
    (void)argv;
    setrlimit(RLIMIT_FSIZE, &limit);
    fd = memfd_create("image", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return fd < 0 ? -1 : 0;
}

static void snapshot(void *context, const struct block_snapshot *one)
{
    size_t *bytes = context;

    *bytes += strlen(one->name) + strlen(one->id);
}

/* What is done with an image outside of a VM. */
static void manage(const uint8_t *steps)
{
    struct disk_source source = {.path = path, .format = BLOCK_FORMAT_QCOW2};
    struct disk_checked checked;
    struct disk_info info;

    (void)disk_info(path, BLOCK_FORMAT_QCOW2, &info, NULL);
    for (unsigned i = 0; i < STEPS; i++) {
        char name[8];

        snprintf(name, sizeof(name), "%u", steps[3 * i + 1] % 3u + 1);
        if (steps[3 * i] % 5 == 0)
            (void)disk_check(path, steps[3 * i] & 8, &checked, NULL);
        else if (steps[3 * i] % 5 == 1)
            (void)disk_snapshot_create(path, name, NULL);
        else if (steps[3 * i] % 5 == 2)
            (void)disk_snapshot_apply(path, name, NULL);
        else if (steps[3 * i] % 5 == 3)
            (void)disk_snapshot_remove(path, name, NULL);
        else
            (void)disk_resize(&source,
                              (uint64_t)(steps[3 * i + 2] + 1u) << (steps[3 * i + 1] % 32 + 9),
                              true, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    bool read_only = size && input[0] & 1;
    struct qcow2 *q;
    size_t names = 0;

    signal(SIGXFSZ, SIG_IGN); /* the fuzzer's own handler ends the process */
    if (size < 3 * STEPS + 1 || ftruncate(fd, 0) < 0 ||
        pwrite(fd, input + 3 * STEPS + 1, size - 3 * STEPS - 1, 0) < 0)
        return 0;
    block_list_qcow2_snapshots(path, snapshot, &names, NULL);
    if (input[0] & 2) {
        manage(input + 1);
        return 0;
    }
    if (qcow2_open(path, read_only, NULL, 0, &q, NULL) < 0)
        return 0;
    for (unsigned i = 0; i < STEPS && q->size >= 512; i++) {
        const uint8_t *step = input + 1 + 3 * i;
        uint64_t sectors = q->size / 512, sector = (uint64_t)step[1] * sectors / 256;
        uint64_t bytes = MIN(((uint64_t)step[2] + 1) * 256 & ~UINT64_C(511),
                             (sectors - sector) * 512);
        struct iovec iov[2] = {{data, bytes / 2}, {data + bytes / 2, bytes - bytes / 2}};

        if (step[0] % 4 == 0 || read_only)
            qcow2_read(q, sector * 512, iov, 2, bytes);
        else if (step[0] % 4 == 1)
            qcow2_write(q, sector * 512, iov, 2, bytes);
        else if (step[0] % 4 == 2)
            qcow2_zero(q, sector * 512, MIN(bytes * 16, (sectors - sector) * 512), step[0] & 8);
        else
            qcow2_flush(q);
    }
    if (!read_only)
        qcow2_flush(q);
    qcow2_close(q);
    return 0;
}
