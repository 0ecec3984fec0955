/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where imported images lie: an OCI image layout (image-layout.md) that any OCI tool can read, with
 * the layers unpacked beside it.
 *
 *      STORE/oci/oci-layout, index.json     what there is: one descriptor a tag
 *      STORE/oci/reserve                    room for an index.json without what goes from a full
 * disk STORE/oci/blobs/sha256/HEX           manifests, configurations, layers as they came
 *      STORE/oci/layers/HEX/                a layer unpacked, by the digest of its tar (diff id)
 *      STORE/oci/pins/OWNER                 digests of manifests that must stay (image_pin)
 *      STORE/oci/tmp/                       what is being made
 *      STORE/oci/index.lock, content.lock   see below
 *
 * Invariants:
 *  1. A blob or a layer appears by rename, whole and on the disk; index.json is replaced by rename.
 *  2. What index.json names is there: content before the tag, the tag before the collection.
 *  3. A crash leaves files in tmp/ and content that nothing names; layout_collect removes both.
 *
 * Locks between processes (flock): content.lock is shared while content is added or opened and
 * exclusive for a collection; index.lock is exclusive around a change of index.json. Order: content
 * before index. A layer in use is locked shared by its own directory, and passed over.
 */
#ifndef LODGE_IMAGE_LAYOUT_H
#define LODGE_IMAGE_LAYOUT_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "image/manifest.h"
#include "image/sha256.h"

#include <limits.h>
#include <stdbool.h>

struct layout {
    int fd; /* STORE/oci */
    char path[PATH_MAX];
    /* How long the blob that is being written is by now; NULL after layout_open. */
    void (*wrote)(void *context, uint64_t bytes);
    void *context; /* of wrote */
};

/* -ENOENT when there is none and it is not to be made. */
int layout_open(const char *store_dir, bool create, struct layout *ret, struct err *err);
void layout_close(struct layout *layout);

enum layout_lock {
    LAYOUT_ADD,     /* content is added or opened */
    LAYOUT_COLLECT, /* content goes away; -EAGAIN when somebody adds */
    LAYOUT_INDEX,   /* index.json changes */
};
/* A descriptor that holds the lock until it is closed, or a negative errno. */
int layout_lock(const struct layout *layout, enum layout_lock lock, struct err *err);

struct blob_writer {
    const struct layout *layout;
    int fd;
    char name[64]; /* in tmp/ */
    struct sha256 sha;
    uint64_t bytes;
};
int blob_begin(const struct layout *layout, struct blob_writer *ret, struct err *err);
int blob_write(struct blob_writer *writer, const void *data, size_t length, struct err *err);
/* The blob becomes part of the store. expected: NULL, or what its digest must be. */
int blob_commit(struct blob_writer *writer, const char *expected, char ret[DIGEST_MAX],
                struct err *err);
/* Does nothing after a commit. */
void blob_abort(struct blob_writer *writer);
int blob_put(const struct layout *layout, const void *data, size_t length, char ret[DIGEST_MAX],
             struct err *err);
/* Copies fd's rest, from where it stands. */
int blob_copy(const struct layout *layout, int fd, const char *expected, char ret[DIGEST_MAX],
              uint64_t *ret_bytes, struct err *err);
/* A descriptor for reading. -ENOENT names the digest. */
int blob_open(const struct layout *layout, const char *digest, struct err *err);
bool blob_exists(const struct layout *layout, const char *digest, uint64_t bytes);
/* A document, held to its digest. */
int blob_load(const struct layout *layout, const char *digest, struct buf *ret, struct err *err);

/* A name in tmp/ that nobody else uses. */
void layout_temporary(const char *what, char ret[64]);
/* Removes a directory or file with all below it, by descriptor; leaves mounts alone. */
int tree_remove(int dirfd, const char *name);

/* index.json; an empty index when there is none. */
int layout_index(const struct layout *layout, json_t **ret, struct err *err);
/* Gives the manifest `target` this tag, in the place of what had it. */
int layout_tag(const struct layout *layout, const char *reference, const struct descriptor *target,
               struct err *err);
/* -ENOENT when there is no such tag. */
int layout_untag(const struct layout *layout, const char *reference, struct err *err);
/* The descriptor of a tag, of a digest ("sha256:...") or of the first digits of one. By its whole
 * digest a manifest is found that has no tag any more, too. */
int layout_find(const struct layout *layout, const char *name, struct descriptor *ret,
                char ret_reference[REFERENCE_MAX], struct err *err);

/* A manifest and its configuration, out of the store. */
struct layout_image {
    char reference[REFERENCE_MAX];
    struct descriptor target;
    struct manifest manifest;
    struct image_config config;
};
int layout_image_load(const struct layout *layout, const char *name, struct layout_image *ret,
                      struct err *err);
void layout_image_done(struct layout_image *image);

struct layout_collected {
    uint64_t nr_blobs, nr_layers, nr_disks, bytes;
    uint64_t nr_busy; /* layers that are in use and stay for the next time */
};
/* Removes what no tag and no pin leads to. -EAGAIN while content is being added. */
int layout_collect(const struct layout *layout, const char *store_dir, struct layout_collected *ret,
                   struct err *err);

#endif
