/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeps the images of stored instances: a pin each (image/pin.h), taken before the instance
 * is stored and dropped after its files are gone, so that there is never one without. An instance
 * stays with the image it was made from, whatever becomes of the tag: every use of its
 * specification goes through pins_resolve. A crash can leave a pin too many: pins_sweep.
 *
 * Images that were not imported are never collected, and have no pins. Threads: any.
 */
#ifndef LODGE_MANAGER_PINS_H
#define LODGE_MANAGER_PINS_H

#include "manager/manager.h"
#include "manager/spec.h"

/* name: the image's, as it was asked for. user: words for who wants to remove it. by_name: it will
 * be looked for by its name again. */
int pins_take(struct manager *m, const char *id, const char *name, const char *user, bool by_name,
              struct err *err);
void pins_rename(struct manager *m, const char *id, const char *user);
void pins_drop(struct manager *m, const char *id);
/* spec->image is the pinned image's digest, if there is a pin. */
void pins_resolve(struct manager *m, const char *id, struct spec *spec);
/* At the start, with all instances in the tables and nothing served yet. */
void pins_sweep(struct manager *m);

#endif
