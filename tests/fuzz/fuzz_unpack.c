/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile layer: the input is the blob, its first byte says how it is unpacked. Whatever it
 * holds, nothing beside the root changes: a witness directory lies next to it, and the usual
 * targets of links lead there.
 */
#include "image/layout.h"
#include "image/unpack.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int blob = -1, base = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static char path[] = "/dev/shm/fuzz_unpack.XXXXXX";

    (void)argc;
    (void)argv;
    blob = memfd_create("blob", MFD_CLOEXEC);
    if (!mkdtemp(path) || (base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return -1;
    return mkdirat(base, "witness", 0755);
}

/* How many entries lie beside the root: the witness, which stays empty, and the root. */
static void look(void)
{
    struct stat st;

    if (fstatat(base, "witness", &st, 0) < 0 || st.st_nlink != 2 || fstat(base, &st) < 0 ||
        st.st_nlink != 4)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct unpack_options options = {.most_bytes = 1 << 20, .most_entries = 200, .most_ratio = 50};
    struct unpack_result result;
    struct err err = ERR_INIT;
    int root;

    if (size < 2 || ftruncate(blob, 0) < 0 || pwrite(blob, input + 1, size - 1, 0) < 0)
        return 0;
    options.flat = input[0] & 1;
    options.devices = input[0] & 2 ? UNPACK_DEVICES_REFUSE : UNPACK_DEVICES_SKIP;
    if (mkdirat(base, "root", 0755) < 0 ||
        (root = openat(base, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        abort();
    (void)unpack_layer(blob, root, &options, &result, &err);
    look();
    close(root);
    if (tree_remove(base, "root") < 0)
        abort();
    return 0;
}
