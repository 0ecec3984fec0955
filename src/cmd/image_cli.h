/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `lodge image`: one function a subverb. */
#ifndef LODGE_CMD_IMAGE_CLI_H
#define LODGE_CMD_IMAGE_CLI_H

#include "cmd/progress.h"
#include "cmd/report.h"
#include "image/import.h"

#define IMAGE_ARGUMENTS_MAX 32

/* What the command line says; a subverb looks at what it takes. */
struct image_cli {
    const char *arguments[IMAGE_ARGUMENTS_MAX];
    size_t nr;
    bool json, quiet, all, force;
    bool local;           /* never by the manager */
    bool report;          /* for a program that watches: cmd/report.h */
    const char *output;   /* save -o */
    char credentials[32]; /* of pull and push, from standard input: their path */
    struct import_options import;
    struct store *store;
    struct progress progress;
    struct report reported;
};

/* Exit status; a negative errno with err set otherwise. */
typedef int image_cli_fn(struct image_cli *cli, struct err *err);

image_cli_fn image_cli_import, image_cli_pull, image_cli_push, image_cli_save;
image_cli_fn image_cli_list, image_cli_inspect, image_cli_history, image_cli_tag, image_cli_remove,
    image_cli_prune;

/* What an import or pull came to: {"names", "digest", "layers", "layers_new", "devices_skipped"};
 * consumed. */
void image_cli_report(const struct image_cli *cli, json_t *result);
/* What rm and prune came to: {"blobs", "layers", "disks", "bytes", "busy", "removed"} and of prune
 * "kept"; consumed. With rm's result < 0 it is what went before that. */
void image_cli_removed(const struct image_cli *cli, int result, json_t *sum);
void image_cli_pruned(const struct image_cli *cli, json_t *sum);
/* The same by the manager. false: there is none that keeps the same store, or it is not its work;
 * *ret_result: how it went. */
bool image_managed(struct image_cli *cli, const char *subverb, int *ret_result, struct err *err);
/* "12.3 MiB" */
void image_cli_size(uint64_t bytes, char ret[24]);

#endif
