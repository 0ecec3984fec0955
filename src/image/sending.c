/* SPDX-License-Identifier: Apache-2.0 */
#include "image/sending.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct sending_blob *find(const struct sending *sending, const char *hex)
{
    for (size_t i = 0; i < sending->nr; i++)
        if (!strncmp(hex, sending->blobs[i].hex, strlen(sending->blobs[i].hex)))
            return &sending->blobs[i];
    return NULL;
}

static void add(struct sending *sending, const struct descriptor *blob)
{
    struct sending_blob *at = &sending->blobs[sending->nr];

    if (find(sending, digest_hex(blob->digest)))
        return;
    snprintf(at->hex, sizeof(at->hex), "%s", digest_hex(blob->digest));
    at->bytes = blob->bytes;
    sending->nr++;
}

int sending_init(struct sending *sending, const struct manifest *manifest)
{
    *sending = (struct sending){.blobs = calloc(manifest->nr_layers + 1, sizeof(*sending->blobs))};
    if (!sending->blobs)
        return -ENOMEM;
    add(sending, &manifest->config);
    for (size_t i = 0; i < manifest->nr_layers; i++)
        add(sending, &manifest->layers[i]);
    return 0;
}

void sending_done(struct sending *sending)
{
    free(sending->blobs);
    *sending = (struct sending){0};
}

static uint64_t position(pid_t pid, const char *fd)
{
    CLEANUP(buf_donep) struct buf text;
    char path[64];
    const char *at;

    buf_init(&text, 4096);
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.16s", (int)pid, fd);
    if (file_load(AT_FDCWD, path, &text, NULL) < 0 || !(at = buf_string(&text)) ||
        strncmp(at, "pos:", 4) != 0)
        return 0;
    return strtoull(at + 4, NULL, 10);
}

void sending_look(struct sending *sending, pid_t pid)
{
    CLEANUP(dir_closep) DIR *dir = NULL;
    const struct dirent *entry;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    if (!(dir = opendir(path)))
        return;
    for (size_t i = 0; i < sending->nr; i++) { /* unless it is found open still */
        if (sending->blobs[i].open)
            sending->blobs[i].sent = sending->blobs[i].bytes;
        sending->blobs[i].open = false;
    }
    while ((entry = readdir(dir))) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
        const char *name;
        struct sending_blob *blob;

        target[n > 0 ? n : 0] = '\0';
        if (!(name = strstr(target, "/blobs/sha256/")) ||
            !(blob = find(sending, name + strlen("/blobs/sha256/"))))
            continue;
        blob->open = true;
        blob->sent = MIN(position(pid, entry->d_name), blob->bytes);
    }
}

void sending_line(struct sending *sending, const char *line)
{
    const char *hex = strstr(line, "sha256:");
    struct sending_blob *blob = hex ? find(sending, hex + strlen("sha256:")) : NULL;

    if (blob && strstr(line, "already exists"))
        blob->sent = blob->bytes;
}

uint64_t sending_sent(const struct sending *sending)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < sending->nr; i++)
        sum += sending->blobs[i].sent;
    return sum;
}

uint64_t sending_total(const struct sending *sending)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < sending->nr; i++)
        sum += sending->blobs[i].bytes;
    return sum;
}
