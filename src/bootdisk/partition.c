/* SPDX-License-Identifier: Apache-2.0 */
#include "bootdisk/volume.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

#define SECTOR      512u
#define CHAIN_MAX   64   /* logical partitions, and what may be a loop of them */
#define GPT_ENTRIES 1024 /* looked at */
#define TYPE_GPT    0xee
#define MBR_SIGN    0xaa55

int disk_bytes_read(const struct disk_bytes *disk, uint64_t offset, void *data, size_t length)
{
    if (!range_fits(offset, length, disk->bytes))
        return -EIO;
    return disk->read(disk->context, offset, data, length);
}

struct finder {
    const struct disk_bytes *disk;
    struct partition *partitions;
    size_t nr;
};

/* In sectors; what does not lie on the disk is left out, what ends behind it is cut. */
static void add(struct finder *f, unsigned number, uint64_t start, uint64_t sectors)
{
    uint64_t all = f->disk->bytes / SECTOR;

    if (f->nr == PARTITIONS_MAX || start == 0 || sectors == 0 || start >= all)
        return;
    f->partitions[f->nr++] = (struct partition){number, start * SECTOR,
                                                MIN(sectors, all - start) * SECTOR};
}

static bool is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0f || type == 0x85;
}

static void find_logical(struct finder *f, uint64_t base)
{
    uint64_t at = base;

    for (unsigned number = 5; number < 5 + CHAIN_MAX; number++) {
        uint8_t sector[SECTOR];
        const uint8_t *entry = sector + 446;

        if (disk_bytes_read(f->disk, at * SECTOR, sector, sizeof(sector)) < 0 ||
            load_le16(sector + 510) != MBR_SIGN)
            return;
        add(f, number, at + load_le32(entry + 8), load_le32(entry + 12));
        if (!is_extended(entry[16 + 4]) || load_le32(entry + 16 + 8) == 0)
            return;
        at = base + load_le32(entry + 16 + 8);
    }
}

static bool find_gpt(struct finder *f)
{
    uint8_t header[SECTOR], entry[128];
    uint64_t table;
    uint32_t nr, size;

    if (disk_bytes_read(f->disk, SECTOR, header, sizeof(header)) < 0 ||
        memcmp(header, "EFI PART", 8) != 0)
        return false;
    table = load_le64(header + 72);
    nr = load_le32(header + 80);
    size = load_le32(header + 84);
    if (size < 128 || size > 4096 || table > f->disk->bytes / SECTOR)
        return false;
    for (uint32_t i = 0; i < MIN(nr, (uint32_t)GPT_ENTRIES); i++) {
        static const uint8_t unused[16];
        uint64_t first, last;

        if (disk_bytes_read(f->disk, table * SECTOR + (uint64_t)i * size, entry, sizeof(entry)) < 0)
            break;
        first = load_le64(entry + 32);
        last = load_le64(entry + 40);
        if (memcmp(entry, unused, 16) != 0 && last >= first && last < UINT64_MAX / SECTOR)
            add(f, i + 1, first, last - first + 1);
    }
    return true;
}

size_t partitions_find(const struct disk_bytes *disk, struct partition ret[PARTITIONS_MAX],
                       const char **ret_table)
{
    struct finder f = {disk, ret, 0};
    uint8_t sector[SECTOR];
    bool protective = false;

    *ret_table = "none";
    if (disk_bytes_read(disk, 0, sector, sizeof(sector)) == 0 &&
        load_le16(sector + 510) == MBR_SIGN) {
        for (unsigned i = 0; i < 4; i++)
            protective |= sector[446 + 16 * i + 4] == TYPE_GPT;
        if (protective && find_gpt(&f))
            *ret_table = "GPT";
        for (unsigned i = 0; !protective && i < 4; i++) {
            const uint8_t *entry = sector + 446 + (size_t)16 * i;

            if (is_extended(entry[4]))
                find_logical(&f, load_le32(entry + 8));
            else if (entry[4])
                add(&f, i + 1, load_le32(entry + 8), load_le32(entry + 12));
        }
        if (!protective && f.nr)
            *ret_table = "MBR";
    }
    if (f.nr == 0)
        ret[f.nr++] = (struct partition){0, 0, disk->bytes};
    return f.nr;
}
