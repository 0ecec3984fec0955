/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The documents of an image (OCI image specification 1.1: descriptor.md, manifest.md,
 * image-index.md, config.md; and Docker's forms of them, which differ in media types only). Pure
 * parsing of foreign text: sizes and counts are capped, digests are checked before they become
 * names, nothing is opened.
 */
#ifndef LODGE_IMAGE_MANIFEST_H
#define LODGE_IMAGE_MANIFEST_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_MAX       72 /* "sha256:", 64 digits, NUL */
#define MANIFEST_LAYERS  127
#define DOCUMENT_MAX     (4u << 20) /* bytes of a manifest, index or configuration */
#define REFERENCE_MAX    256
#define MEDIA_OCI_LAYER  "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI        "application/vnd.oci.image.manifest.v1+json"
#define ANNOTATION_NAME  "org.opencontainers.image.ref.name"

struct descriptor {
    char media_type[128];
    char digest[DIGEST_MAX];
    uint64_t bytes;
};

struct manifest {
    struct descriptor config;
    size_t nr_layers;
    struct descriptor layers[MANIFEST_LAYERS]; /* lowest first */
};

struct image_config {
    json_t *document; /* owned */
    size_t nr_layers;
    char diff_ids[MANIFEST_LAYERS][DIGEST_MAX]; /* of the layers unpacked, lowest first */
};

/* "sha256:" and 64 lower-case hexadecimal digits: no other algorithm is taken. */
bool digest_valid(const char *digest);
/* What follows "sha256:". */
const char *digest_hex(const char *digest);
void digest_format(const uint8_t hash[32], char ret[DIGEST_MAX]);

int descriptor_parse(json_t *value, const char *source, struct descriptor *ret, struct err *err);
int manifest_parse(const char *text, size_t length, const char *source, struct manifest *ret,
                   struct err *err);
/* Of an index: the manifest for linux/amd64 (an entry without a platform counts as fit), or an
 * index that may hold it. *ret_index: the text is an index (else nothing is returned). */
int manifest_pick(const char *text, size_t length, const char *source, bool *ret_index,
                  struct descriptor *ret, struct err *err);
/* -EINVAL also when the number of layers is not the manifest's. */
int image_config_parse(const char *text, size_t length, const char *source, size_t nr_layers,
                       struct image_config *ret, struct err *err);
void image_config_done(struct image_config *config);
/* How a command is run (struct image.config of image/store.h). NULL: out of memory. */
json_t *image_config_run(const struct image_config *config);

/* NAME[:TAG] with the tag filled in ("latest"); -EINVAL with what is allowed. */
int reference_normalize(const char *text, char ret[REFERENCE_MAX], struct err *err);

#endif
