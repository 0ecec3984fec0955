/* SPDX-License-Identifier: Apache-2.0 */
#include "image/pin.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIN_BYTES_MAX 8192

static int pin_path(const char *owner, char ret[160], struct err *err)
{
    if (!*owner || *owner == '.' || strchr(owner, '/') || strlen(owner) > 128)
        return err_set(err, -EINVAL, "'%.100s' is no name for what keeps an image", owner);
    snprintf(ret, 160, "pins/%s", owner);
    return 0;
}

/* The next line, without its end; what is too long is cut. */
static const char *take_line(const char *at, char *ret, size_t size)
{
    size_t length = strcspn(at, "\n");

    snprintf(ret, size, "%.*s", (int)length, at);
    return at + length + (at[length] == '\n');
}

int pin_read(const struct layout *layout, const char *owner, struct image_pin *ret)
{
    CLEANUP(buf_donep) struct buf text;
    char path[160];
    const char *at;
    int result;

    buf_init(&text, PIN_BYTES_MAX);
    if ((result = pin_path(owner, path, NULL)) < 0 ||
        (result = file_load(layout->fd, path, &text, NULL)) < 0)
        return result;
    if (!(at = buf_string(&text)))
        return -ENOMEM;
    at = take_line(at, ret->digest, sizeof(ret->digest));
    at = take_line(at, ret->name, sizeof(ret->name));
    at = take_line(at, ret->user, sizeof(ret->user));
    take_line(at, ret->place, sizeof(ret->place));
    return digest_valid(ret->digest) ? 0 : -EBADMSG;
}

int pin_write(const struct layout *layout, const char *owner, const struct image_pin *pin,
              struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    char path[160];
    int result;

    buf_init(&text, PIN_BYTES_MAX);
    if ((result = pin_path(owner, path, err)) < 0)
        return result;
    if (buf_printf(&text, "%s\n%s\n%s\n%s\n", pin->digest, pin->name, pin->user, pin->place) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    return file_replace(layout->fd, path, text.data, text.length, 0644, err);
}

int image_pin(const struct image *image, const char *owner, const struct image_pin *pin,
              struct err *err)
{
    CLEANUP(fd_closep) int lock = -1;
    struct image_pin own = *pin;
    struct layout layout;
    int result;

    if (!image->imported)
        return 0;
    if ((result = layout_open(image->store_dir, false, &layout, err)) < 0)
        return result;
    snprintf(own.digest, sizeof(own.digest), "%.*s", (int)sizeof(own.digest) - 1, image->digest);
    if ((lock = layout_lock(&layout, LAYOUT_ADD, err)) < 0)
        result = lock;
    else
        result = pin_write(&layout, owner, &own, err);
    layout_close(&layout);
    return result;
}

void pin_each(const struct layout *layout, void (*each)(const struct image_pin *pin, void *context),
              void *context)
{
    int fd = openat(layout->fd, "pins", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    struct image_pin pin;

    while (dir && (entry = readdir(dir)))
        if (pin_read(layout, entry->d_name, &pin) == 0)
            each(&pin, context);
}

struct users {
    const char *digest, *reference;
    bool last; /* no other name leads to the digest */
    json_t *words;
};

static void add_user(const struct image_pin *pin, void *context)
{
    const struct users *users = context;
    bool needs = *pin->name ? !strcmp(pin->name, users->reference)
                            : users->last && !strcmp(pin->digest, users->digest);

    if (!needs || (*pin->place && access(pin->place, F_OK) < 0 && errno == ENOENT))
        return;
    json_array_append_new(users->words, json_string(*pin->user ? pin->user : "something else")
                                            ?: json_string("?"));
}

json_t *pin_users(const struct layout *layout, const char *digest, const char *reference)
{
    struct users users = {digest, reference, true, json_array()};
    json_t *index, *entry;
    size_t i;

    if (layout_index(layout, &index, NULL) == 0) {
        json_array_foreach(json_object_get(index, "manifests"), i, entry)
        {
            const char *other = json_string_value(json_object_get(entry, "digest"));
            const char *name = json_string_value(
                json_object_get(json_object_get(entry, "annotations"), ANNOTATION_NAME));

            if (other && name && !strcmp(other, digest) && strcmp(name, reference) != 0)
                users.last = false;
        }
        json_decref(index);
    }
    pin_each(layout, add_user, &users);
    return users.words;
}
