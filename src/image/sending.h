/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far a push is, of which skopeo says nothing in numbers: by how far it has read the blobs of
 * the store (/proc/PID/fdinfo). A blob that it closed is sent; one that the registry has it names,
 * and does not open. Private to image/.
 */
#ifndef LODGE_IMAGE_SENDING_H
#define LODGE_IMAGE_SENDING_H

#include "image/manifest.h"

#include <sys/types.h>

struct sending {
    struct sending_blob {
        char hex[DIGEST_MAX];
        uint64_t bytes, sent;
        bool open;
    } * blobs;
    size_t nr;
};

/* The manifest's configuration and layers, each blob once. */
int sending_init(struct sending *sending, const struct manifest *manifest);
void sending_done(struct sending *sending);
void sending_look(struct sending *sending, pid_t pid);
/* A line of skopeo's. */
void sending_line(struct sending *sending, const char *line);
uint64_t sending_sent(const struct sending *sending);
uint64_t sending_total(const struct sending *sending);

#endif
