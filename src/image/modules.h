/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which kernel modules a guest has to load, in which order: the wanted ones and what they depend
 * on, as the modules themselves say (.modinfo: depends=, softdep=pre:, alias=), less what is built
 * in. No depmod and no modules.dep is needed.
 */
#ifndef LODGE_IMAGE_MODULES_H
#define LODGE_IMAGE_MODULES_H

#include "base/err.h"

#include <stddef.h>

struct module_list {
    char **paths; /* absolute, owned, each after all that it needs */
    size_t nr;
};

/* wanted: NULL-terminated names, '-' and '_' alike; "?name" is left out when the kernel has none.
 */
int modules_resolve(const char *kernel_dir, const char *release, const char *const *wanted,
                    struct module_list *ret, struct err *err);
void module_list_done(struct module_list *list);

/*
 * Leaves out what a guest would spend time on and has no use for: the signature (the host that
 * gives it the module gives it the kernel as well) and the type information for BPF, whose section
 * is renamed in place. Two thirds of the time that loading takes on an interpreted processor.
 * Returns the new size.
 */
size_t module_strip(void *image, size_t size);

/*
 * One value of a module's .modinfo: the start of the text after "key=", for the index-th such
 * entry, or NULL. Bounded by the image, which may be anything.
 */
const char *modinfo_find(const void *image, size_t size, const char *key, size_t index);

#endif
