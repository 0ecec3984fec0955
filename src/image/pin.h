/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeps an image although no name leads to it any more: a file for each owner in the layout's
 * pins/, of four lines, which hold for whoever takes names away, also while no manager runs:
 *
 *      the manifest's digest
 *      the name by which it is looked for; empty when the digest alone will do
 *      who uses it, in words: "instance 'web'"
 *      a path without which nobody uses it any more (a manager's directory); empty: always
 *
 * A pin of the first line alone is one, too. The content stays as long as the file is there,
 * whatever its other lines say.
 */
#ifndef LODGE_IMAGE_PIN_H
#define LODGE_IMAGE_PIN_H

#include "image/layout.h"
#include "image/store.h"

#define PIN_USER_MAX 160

struct image_pin {
    char digest[DIGEST_MAX];
    char name[REFERENCE_MAX];
    char user[PIN_USER_MAX];
    char place[PATH_MAX];
};

/* owner: a name without '/'. The image stays until pins/OWNER is unlinked, whatever tags are
 * removed; pin's digest is that of the image. */
int image_pin(const struct image *image, const char *owner, const struct image_pin *pin,
              struct err *err);
/* -ENOENT: there is none. */
int pin_read(const struct layout *layout, const char *owner, struct image_pin *ret);
int pin_write(const struct layout *layout, const char *owner, const struct image_pin *pin,
              struct err *err);
void pin_each(const struct layout *layout, void (*each)(const struct image_pin *pin, void *context),
              void *context);

/* The users of an image by a digest and one of its names: those that need this name, and, if it is
 * the last one, those that need the image. An array of words, new. */
json_t *pin_users(const struct layout *layout, const char *digest, const char *reference);

#endif
