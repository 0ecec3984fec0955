/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of lodge job that ask the manager, and what they share. argv[0] is the command. */
#ifndef LODGE_CMD_JOB_CLI_H
#define LODGE_CMD_JOB_CLI_H

#include "base/err.h"
#include "cmd/managed.h"

#include <stdint.h>

int job_submit(int argc, char **argv);
int job_ls(int argc, char **argv);
int job_inspect(int argc, char **argv);
int job_explain(int argc, char **argv);
int job_logs(int argc, char **argv);
int job_wait(int argc, char **argv);
int job_cancel(int argc, char **argv);
int job_update(int argc, char **argv);
int job_rm(int argc, char **argv);
int job_queue(int argc, char **argv);
int job_stats(int argc, char **argv);
int job_chart(int argc, char **argv);

/* Prints why a job runs, waits or stands still. */
int job_explain_one(const char *ref, struct err *err);

/* "30s", "500ms", "2m", "1h", or a number of seconds, into member `name` of object. what: the
 * option, for the error. NULL text: nothing. */
int job_put_seconds(json_t *object, const char *name, const char *what, const char *text,
                    struct err *err);
/* A whole number likewise. */
int job_put_whole(json_t *object, const char *name, const char *what, const char *text,
                  struct err *err);
/* A member as text ("" if it is none), as a number (0). */
const char *job_text(const json_t *object, const char *name);
double job_number(const json_t *object, const char *name);
void job_print_json(const json_t *json);

#endif
