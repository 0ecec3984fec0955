/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images into the store and out of it. Each function takes the store's locks itself and may be
 * called by several processes at once; a process that is killed leaves nothing that counts (see
 * layout.h).
 *
 * Threads: any, one call each; the progress callback is called on the caller's.
 */
#ifndef LODGE_IMAGE_IMPORT_H
#define LODGE_IMAGE_IMPORT_H

#include "image/layout.h"
#include "image/store.h"
#include "image/unpack.h"

#include <sys/types.h>

#define IMPORT_REFERENCES_MAX 16

struct import_options {
    const char *reference; /* NULL: what the archive says, else made of the path */
    const char *source;    /* the path of what comes from standard input; NULL: not known */
    struct unpack_options unpack;
    bool insecure;         /* registries: plain HTTP or an unknown certificate will do */
    const char *auth_file; /* registries: skopeo's; NULL: its default */
    /* what: "layer 2 of 5", "copying" and the like; total 0: not known. NULL: none. */
    void (*progress)(void *context, const char *what, uint64_t done, uint64_t total);
    void *context;
};

struct import_result {
    size_t nr_references;
    char references[IMPORT_REFERENCES_MAX][REFERENCE_MAX];
    char digest[DIGEST_MAX]; /* of the last one's manifest */
    uint64_t nr_layers, nr_layers_new, nr_devices_skipped;
};

/* The directory of the store that images are written to; made when there is none. */
int import_store_dir(const struct store *store, char ret[PATH_MAX], struct err *err);

/* path: a directory with a root file system, a tar of one, a docker-archive, an OCI layout as a
 * directory or tar; "-": a tar from standard input. */
int image_import(const struct store *store, const char *path, const struct import_options *options,
                 struct import_result *ret, struct err *err);
/* The tar of a directory with a root file system, an archive or a layout, from which image_import
 * makes the same as from the directory. write: -errno ends it, and is what is returned. */
int image_pack(int dir_fd, int (*write)(void *context, const void *data, size_t length),
               void *context, struct err *err);
/* From a registry and to it, by skopeo. reference: [HOST[:PORT]/]NAME[:TAG]. */
int image_pull(const struct store *store, const char *reference,
               const struct import_options *options, struct import_result *ret, struct err *err);
int image_push(const struct store *store, const char *name, const char *to,
               const struct import_options *options, struct err *err);
/* After a process (pid; 0: not known which) that was killed at any of these: removes what it had
 * made, as far as nobody else adds; the rest goes with the next collection. */
void image_abandon(const struct store *store, pid_t pid);
/* A tar that is an OCI layout and a docker-archive at once. fd: where it is written to. */
int image_save(const struct store *store, const char *name, int fd,
               const struct import_options *options, struct err *err);

/* The first of the store's layouts that has this tag or digest, open. */
int import_find(const struct store *store, const char *name, struct layout *ret, struct err *err);

/* As image_import once a layout or archive is open; the content lock is held. */
struct image_source;
int import_source(const struct layout *layout, const struct image_source *source, bool docker,
                  const char *fallback, const struct import_options *options,
                  struct import_result *ret, struct err *err);

#endif
