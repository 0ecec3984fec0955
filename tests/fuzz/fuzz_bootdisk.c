/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile disk: the input is its contents (or, when its first byte is 'M', the text of a boot
 * loader's menu). Whatever it holds, the search ends with an answer or an error, and what is handed
 * over is not larger than the caps.
 */
#include "bootdisk/find.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

struct memory {
    const uint8_t *data;
};

static int read_memory(void *context, uint64_t offset, void *data, size_t length)
{
    memcpy(data, ((struct memory *)context)->data + offset, length);
    return 0;
}

static int count(void *context, const void *data, size_t length)
{
    uint64_t *bytes = context;

    (void)data;
    *bytes += length;
    return *bytes > 16u << 20 ? -EFBIG : 0; /* a file of holes is as long as it says */
}

static void no_include(void *context, const char *path)
{
    (void)context;
    if (strlen(path) >= MENU_PATH_MAX)
        abort();
}

static void read_menus(const char *text)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        struct menu *menu = menu_new();

        if (!menu)
            return;
        if (kind == 0)
            menu_read_grub(menu, text);
        else if (kind == 1)
            menu_read_loader_entry(menu, "id", text);
        else if (kind == 2)
            menu_read_isolinux(menu, text, no_include, NULL);
        else
            menu_read_grubenv(menu, text);
        if (menu_default(menu) && !*menu_default(menu)->kernel)
            abort();
        menu_free(menu);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct memory memory = {input};
    struct disk_bytes disk = {size, read_memory, &memory};
    uint64_t kernel = 0, initrd = 0;
    struct err err = ERR_INIT;
    struct boot_found *found;

    if (size && input[0] == 'M') {
        char *text = strndup((const char *)input + 1, size - 1);

        if (text)
            read_menus(text);
        free(text);
        return 0;
    }
    if ((found = malloc(sizeof(*found))))
        (void)boot_find(&disk, "vda", count, &kernel, count, &initrd, found, &err);
    free(found);
    return 0;
}
