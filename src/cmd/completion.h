/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What could stand at the place of the word that a user is typing. The shells' scripts only ask
 * `lodge completion words WORD...` and know nothing of verbs and options themselves.
 */
#ifndef LODGE_CMD_COMPLETION_H
#define LODGE_CMD_COMPLETION_H

#include <stddef.h>

#define COMPLETION_FILES ":files" /* a path of the host */
#define COMPLETION_DIRS  ":dirs"  /* a directory of the host */

/* Where images, kernels, instances and running virtual machines come from. */
struct completion_names {
    void (*images)(void (*each)(const char *name, void *context), void *context);
    void (*kernels)(void (*each)(const char *name, void *context), void *context);
    void (*instances)(void (*each)(const char *name, void *context), void *context);
    void (*machines)(void (*each)(const char *name, void *context), void *context);
};

/*
 * words: those after "lodge", the last the one being typed (""). offer is called with each
 * candidate that begins with it, and with COMPLETION_FILES or COMPLETION_DIRS where the shell is to
 * look for files. "--a=b" is one word.
 */
void completion_offer(const struct completion_names *names, size_t nr_words, char **words,
                      void (*offer)(const char *candidate, void *context), void *context);

#endif
