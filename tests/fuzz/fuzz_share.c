/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest's FUSE requests: the input is a sequence of them, each a length and its bytes,
 * with node ids and handles taken from a small pool of those that exist. Nothing may crash, and
 * nothing beside the shared directory may change.
 */
#include "share/share.h"

#include "base/util.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char place[64], shared[80], witness[80];
static uint64_t ids[16];
static unsigned nr_ids;

static void note(uint64_t id)
{
    ids[nr_ids++ % ARRAY_LEN(ids)] = id;
}

static void clean(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf %s", place);
    if (system(command))
        perror("rm");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct rlimit limit = {1u << 20, 1u << 20};

    (void)argc;
    (void)argv;
    setrlimit(RLIMIT_FSIZE, &limit);
    strcpy(place, "/tmp/lodge-fuzz-XXXXXX");
    if (!mkdtemp(place))
        return -1;
    snprintf(shared, sizeof(shared), "%s/shared", place);
    snprintf(witness, sizeof(witness), "%s/witness", place);
    close(open(witness, O_CREAT | O_WRONLY, 0600));
    atexit(clean);
    return 0;
}

static void one(struct share *share, const uint8_t *data, size_t length)
{
    static uint8_t request_bytes[4096], reply[8192];
    struct fuse_in_header *header = (struct fuse_in_header *)(void *)request_bytes;
    struct iovec out = {request_bytes, 0}, in = {reply, sizeof(reply)};
    struct share_request request = {.out = &out, .nr_out = 1, .in = &in, .nr_in = 1};

    memset(request_bytes, 0, sizeof(*header));
    header->opcode = data[0] % 56;
    header->nodeid = data[1] & 16 ? ids[data[1] % 16] : 1;
    memcpy(request_bytes + sizeof(*header), data + 3, length - 3);
    if ((data[1] & 32) && length > 11) /* a handle, or another node */
        memcpy(request_bytes + sizeof(*header), &ids[data[2] % 16], 8);
    out.iov_len = sizeof(*header) + length - 3;
    if (header->opcode == FUSE_INIT || header->opcode == FUSE_DESTROY)
        return;
    if (share_handle(share, &request) >= sizeof(struct fuse_out_header) + 8) {
        uint64_t id = load_le64(reply + sizeof(struct fuse_out_header));

        note(id);
        if (header->opcode == FUSE_CREATE)
            note(load_le64(reply + sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuse_in_header header = {.opcode = FUSE_INIT};
    struct fuse_init_in init = {.major = 7, .minor = 36};
    uint8_t reply[256];
    struct iovec out[] = {{&header, sizeof(header)}, {&init, sizeof(init)}};
    struct iovec in = {reply, sizeof(reply)};
    struct share_request request = {.out = out, .nr_out = 2, .in = &in, .nr_in = 1};
    struct share_member member = {0};
    struct share_config config = {.members = &member, .nr_members = 1, .fds_max = 16};
    struct share *share;
    struct stat st;

    signal(SIGXFSZ, SIG_IGN); /* as the server does; libFuzzer has a handler of its own by now */
    mkdir(shared, 0700);
    member.fd = open(shared, O_PATH | O_CLOEXEC);
    nr_ids = 0;
    if (share_enter_proc(NULL) < 0 || share_new(&config, &share, NULL) < 0)
        abort();
    share_handle(share, &request);
    while (size > 4) {
        size_t length = MIN((size_t)data[0] + 3, size - 1);

        one(share, data + 1, length);
        data += 1 + length;
        size -= 1 + length;
    }
    share_free(share);
    if (stat(witness, &st) || st.st_size || (st.st_mode & 0777) != 0600 || st.st_nlink != 1)
        abort();
    return 0;
}
