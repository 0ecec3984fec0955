/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AML encoding (ACPI 6.4 20.2). Package lengths are always written in four bytes (20.2.4 allows
 * more bytes than needed), so that closing a container is filling in a field.
 */
#include "machine/acpi/aml.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

#define OP_ZERO    0x00
#define OP_ONE     0x01
#define OP_NAME    0x08
#define OP_BYTE    0x0a
#define OP_WORD    0x0b
#define OP_DWORD   0x0c
#define OP_STRING  0x0d
#define OP_QWORD   0x0e
#define OP_SCOPE   0x10
#define OP_BUFFER  0x11
#define OP_PACKAGE 0x12
#define OP_EXT     0x5b
#define OP_METHOD  0x14
#define OP_STORE   0x70
#define OP_AND     0x7b
#define OP_NOTIFY  0x86
#define OP_IF      0xa0
#define OP_REGION  0x80 /* behind OP_EXT, as the next */
#define OP_FIELD   0x81

#define OP_DUAL_NAME  0x2e
#define OP_MULTI_NAME 0x2f

#define METHOD_SERIALIZED 0x08
#define REGION_IO         1
#define FIELD_DWORD       3
#define RANGE_FIXED       0x0c /* minimum and maximum are */
#define OP_DEVICE         0x82

#define LENGTH_BYTES 4
#define LENGTH_MAX   ((1u << 28) - 1)
#define NAME_LENGTH  4

#define RESOURCE_END 0x79

void aml_init(struct aml *aml, size_t cap)
{
    buf_init(&aml->out, cap);
    aml->error = 0;
}

void aml_done(struct aml *aml)
{
    buf_done(&aml->out);
}

static void put(struct aml *aml, const void *data, size_t length)
{
    if (!aml->error)
        aml->error = buf_append(&aml->out, data, length);
}

static void put_byte(struct aml *aml, unsigned value)
{
    uint8_t byte = (uint8_t)value;

    put(aml, &byte, 1);
}

static void put_le(struct aml *aml, uint64_t value, size_t length)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    put(aml, bytes, length);
}

/* A name of up to four characters, padded, after an optional root. */
static void put_name(struct aml *aml, const char *name)
{
    char padded[NAME_LENGTH] = {'_', '_', '_', '_'};
    size_t length;

    if (*name == '\\') {
        put_byte(aml, '\\');
        name++;
    }
    length = strlen(name);
    if (length > NAME_LENGTH) {
        aml->error = aml->error ? aml->error : -EINVAL;
        return;
    }
    memcpy(padded, name, length);
    put(aml, padded, sizeof(padded));
}

static size_t begin(struct aml *aml, unsigned opcode, bool extended)
{
    size_t mark;

    if (extended)
        put_byte(aml, OP_EXT);
    put_byte(aml, opcode);
    mark = aml->out.length;
    put_le(aml, 0, LENGTH_BYTES);
    return mark;
}

void aml_end(struct aml *aml, size_t mark)
{
    size_t length = aml->out.length - mark;
    uint8_t *field;

    if (aml->error)
        return;
    if (length > LENGTH_MAX) {
        aml->error = -EFBIG;
        return;
    }
    field = (uint8_t *)aml->out.data + mark;
    field[0] = (uint8_t)((LENGTH_BYTES - 1) << 6 | (length & 0xf));
    field[1] = (uint8_t)(length >> 4);
    field[2] = (uint8_t)(length >> 12);
    field[3] = (uint8_t)(length >> 20);
}

size_t aml_scope_begin(struct aml *aml, const char *name)
{
    size_t mark = begin(aml, OP_SCOPE, false);

    put_name(aml, name);
    return mark;
}

size_t aml_device_begin(struct aml *aml, const char *name)
{
    size_t mark = begin(aml, OP_DEVICE, true);

    put_name(aml, name);
    return mark;
}

size_t aml_package_begin(struct aml *aml, unsigned nr_elements)
{
    size_t mark = begin(aml, OP_PACKAGE, false);

    put_byte(aml, nr_elements);
    return mark;
}

/* A buffer holds its size as an integer before its bytes; it is written as a word and filled in at
 * the end. */
size_t aml_resources_begin(struct aml *aml)
{
    size_t mark = begin(aml, OP_BUFFER, false);

    put_byte(aml, OP_WORD);
    put_le(aml, 0, 2);
    return mark;
}

void aml_resources_end(struct aml *aml, size_t mark)
{
    size_t start = mark + LENGTH_BYTES + 3, length;

    put_byte(aml, RESOURCE_END);
    put_byte(aml, 0); /* checksum: none */
    if (aml->error)
        return;
    length = aml->out.length - start;
    if (length > UINT16_MAX) {
        aml->error = -EFBIG;
        return;
    }
    store_le16(aml->out.data + start - 2, (uint16_t)length);
    aml_end(aml, mark);
}

void aml_name(struct aml *aml, const char *name)
{
    put_byte(aml, OP_NAME);
    put_name(aml, name);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        put_byte(aml, value ? OP_ONE : OP_ZERO);
    } else if (value <= UINT8_MAX) {
        put_byte(aml, OP_BYTE);
        put_le(aml, value, 1);
    } else if (value <= UINT16_MAX) {
        put_byte(aml, OP_WORD);
        put_le(aml, value, 2);
    } else if (value <= UINT32_MAX) {
        put_byte(aml, OP_DWORD);
        put_le(aml, value, 4);
    } else {
        put_byte(aml, OP_QWORD);
        put_le(aml, value, 8);
    }
}

void aml_string(struct aml *aml, const char *string)
{
    put_byte(aml, OP_STRING);
    put(aml, string, strlen(string) + 1);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits and four hexadecimal digits, big-endian (ACPI 6.4 19.3.4). */
void aml_eisa_id(struct aml *aml, const char *id)
{
    uint32_t value = 0;

    if (strlen(id) != 7) {
        aml->error = aml->error ? aml->error : -EINVAL;
        return;
    }
    for (unsigned i = 0; i < 3; i++)
        value = value << 5 | ((unsigned)id[i] - 0x40u);
    for (unsigned i = 3; i < 7; i++)
        value = value << 4 | hex_digit(id[i]);
    put_byte(aml, OP_DWORD);
    put_le(aml, __builtin_bswap32(value), 4);
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *value)
{
    aml_name(aml, name);
    aml_string(aml, value);
}

void aml_name_eisa_id(struct aml *aml, const char *name, const char *id)
{
    aml_name(aml, name);
    aml_eisa_id(aml, id);
}

void aml_resource_io(struct aml *aml, uint16_t port, uint8_t length)
{
    put_byte(aml, 0x47); /* small: I/O port, 7 bytes */
    put_byte(aml, 1);    /* 16-bit decode */
    put_le(aml, port, 2);
    put_le(aml, port, 2);
    put_byte(aml, 1); /* alignment */
    put_byte(aml, length);
}

void aml_resource_irq(struct aml *aml, unsigned irq)
{
    put_byte(aml, 0x22); /* small: IRQ, 2 bytes */
    put_le(aml, UINT64_C(1) << irq, 2);
}

void aml_resource_memory32(struct aml *aml, uint32_t base, uint32_t length)
{
    put_byte(aml, 0x86); /* large: 32-bit fixed memory, 9 bytes */
    put_le(aml, 9, 2);
    put_byte(aml, 1); /* read-write */
    put_le(aml, base, 4);
    put_le(aml, length, 4);
}

void aml_resource_interrupt(struct aml *aml, uint32_t gsi)
{
    put_byte(aml, 0x89); /* large: extended interrupt, 6 bytes */
    put_le(aml, 6, 2);
    put_byte(aml, 0x01); /* consumer, level, active high, exclusive */
    put_byte(aml, 1);
    put_le(aml, gsi, 4);
}

/* --- methods --- */

/* "\\_SB_.PCI0.S001" (20.2.2): the root, how many names, the names. */
static void put_path(struct aml *aml, const char *path)
{
    unsigned nr = 1;

    if (*path == '\\') {
        put_byte(aml, '\\');
        path++;
    }
    for (const char *at = path; *at; at++)
        nr += *at == '.';
    if (nr == 2)
        put_byte(aml, OP_DUAL_NAME);
    if (nr > 2) {
        put_byte(aml, OP_MULTI_NAME);
        put_byte(aml, nr);
    }
    for (unsigned i = 0; i < nr; i++) {
        char name[NAME_LENGTH + 1] = "";
        size_t length = strcspn(path, ".");

        memcpy(name, path, length < NAME_LENGTH ? length : NAME_LENGTH);
        put_name(aml, name);
        path += length + (path[length] == '.');
    }
}

size_t aml_method_begin(struct aml *aml, const char *name, unsigned nr_arguments)
{
    size_t mark = begin(aml, OP_METHOD, false);

    put_name(aml, name);
    put_byte(aml, nr_arguments | METHOD_SERIALIZED);
    return mark;
}

size_t aml_if_begin(struct aml *aml)
{
    return begin(aml, OP_IF, false);
}

void aml_region_io(struct aml *aml, const char *name, uint16_t port, uint8_t length)
{
    put_byte(aml, OP_EXT);
    put_byte(aml, OP_REGION);
    put_name(aml, name);
    put_byte(aml, REGION_IO);
    aml_integer(aml, port);
    aml_integer(aml, length);
}

void aml_fields32(struct aml *aml, const char *region, const char *const *names, unsigned nr)
{
    size_t mark = begin(aml, OP_FIELD, true);

    put_name(aml, region);
    put_byte(aml, FIELD_DWORD);
    for (unsigned i = 0; i < nr; i++) {
        put_name(aml, names[i]);
        put_byte(aml, 32); /* bits, as a package length of one byte */
    }
    aml_end(aml, mark);
}

void aml_and(struct aml *aml, const char *path, uint64_t mask)
{
    put_byte(aml, OP_AND);
    put_path(aml, path);
    aml_integer(aml, mask);
    put_byte(aml, OP_ZERO); /* no target */
}

void aml_store(struct aml *aml, uint64_t value, const char *path)
{
    put_byte(aml, OP_STORE);
    aml_integer(aml, value);
    put_path(aml, path);
}

void aml_notify(struct aml *aml, const char *path, uint64_t value)
{
    put_byte(aml, OP_NOTIFY);
    put_path(aml, path);
    aml_integer(aml, value);
}

void aml_resource_bus_numbers(struct aml *aml, uint16_t first, uint16_t last)
{
    put_byte(aml, 0x88); /* large: word address space, 13 bytes */
    put_le(aml, 13, 2);
    put_byte(aml, 2); /* bus numbers */
    put_byte(aml, RANGE_FIXED);
    put_byte(aml, 0);
    put_le(aml, 0, 2); /* granularity */
    put_le(aml, first, 2);
    put_le(aml, last, 2);
    put_le(aml, 0, 2); /* translation */
    put_le(aml, last - first + 1u, 2);
}

void aml_resource_memory_window(struct aml *aml, uint32_t base, uint32_t length)
{
    put_byte(aml, 0x87); /* large: double word address space, 23 bytes */
    put_le(aml, 23, 2);
    put_byte(aml, 0); /* memory */
    put_byte(aml, RANGE_FIXED);
    put_byte(aml, 1); /* read-write, not cacheable */
    put_le(aml, 0, 4);
    put_le(aml, base, 4);
    put_le(aml, base + (length - 1), 4);
    put_le(aml, 0, 4);
    put_le(aml, length, 4);
}
