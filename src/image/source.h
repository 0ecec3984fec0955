/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of an image archive by their names: in a directory, or in a tar whose members are
 * spooled into the store's tmp/ under numbers, so that no name out of a tar ever becomes a path.
 * Private to image/.
 */
#ifndef LODGE_IMAGE_SOURCE_H
#define LODGE_IMAGE_SOURCE_H

#include "image/layout.h"

struct source_member {
    char *name; /* cleaned: no leading "./" */
    char *link; /* of a symbolic or hard link: the member that is meant; NULL for a file */
    char stored[64];
};

struct image_source {
    const struct layout *layout;
    int dir_fd; /* a directory; -1: members */
    struct source_member *members;
    size_t nr, room;
};

enum source_kind {
    SOURCE_OCI,    /* index.json, blobs/ */
    SOURCE_DOCKER, /* manifest.json */
    SOURCE_TREE,   /* none of these: a root file system */
};

/* What a tar or a directory is; of a tar only the names are read. */
int source_detect(int fd, bool directory, enum source_kind *ret, struct err *err);
/* Takes a directory's descriptor, or reads a tar from its start and spools it. */
int source_open(const struct layout *layout, int fd, bool directory, struct image_source *ret,
                struct err *err);
void source_close(struct image_source *source);
/* A descriptor for reading, or -ENOENT. */
int source_member(const struct image_source *source, const char *name, struct err *err);
int source_load(const struct image_source *source, const char *name, struct buf *ret,
                struct err *err);

#endif
