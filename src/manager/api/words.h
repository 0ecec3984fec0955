/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that become command lines of `lodge` (manager/tasks.c): nothing of a request may be
 * taken for an option. Private to api/.
 */
#ifndef LODGE_MANAGER_API_WORDS_H
#define LODGE_MANAGER_API_WORDS_H

#include "manager/api/request.h"

/* word: NULL when the request has none; required: that is -EINVAL then, as is what cannot be a
 * word. `what` is its name in the request. */
int words_check(const char *what, const char *word, bool required, struct err *err);
/* Likewise, and absolute. */
int words_check_path(const char *what, const char *path, bool required, struct err *err);
/* Nothing for NULL, and for 0. */
void words_add(json_t *words, const char *word);
void words_add_option(json_t *words, const char *option, const char *value);
void words_add_number(json_t *words, const char *option, uint64_t value);

/* The query's `wait`; negative: api_fail was called. */
int api_task_wait(struct api_request *request, struct api_reply *reply, uint64_t *ret_s);
/* Makes it, starts it, answers. words: consumed. target: the file that it makes; NULL: none. */
void api_task(struct api_request *request, struct api_reply *reply, const char *kind,
              const char *subject, const char *target, json_t *words, uint64_t wait_s);

#endif
