/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and numbers as people write them. */
#ifndef LODGE_BASE_SIZE_H
#define LODGE_BASE_SIZE_H

#include "base/err.h"

#include <stdint.h>

/* "512M", "2G", "64K", "1T", "4096" (bytes); KiB/MiB spellings too. -EINVAL or -ERANGE with the
 * text quoted. */
int size_parse(const char *text, uint64_t *ret_bytes, struct err *err);
/* Decimal (or 0x hexadecimal) in [least, most]; what names the value in the error. */
int number_parse(const char *text, const char *what, uint64_t least, uint64_t most, uint64_t *ret,
                 struct err *err);

#endif
