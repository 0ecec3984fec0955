/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of guest functions, from files: a System.map or /proc/kallsyms ("ADDRESS TYPE NAME" lines),
 * or the symbol table of a 64-bit ELF file. Several files add up. Private to vmm/.
 *
 * An address belongs to the nearest function at or below it, in the same half of the address space.
 * A function of known size ends there; one of unknown size at the next, or after SYMBOLS_REACH.
 */
#ifndef LODGE_VMM_SYMBOLS_H
#define LODGE_VMM_SYMBOLS_H

#include "base/err.h"

#include <stdint.h>

#define SYMBOLS_REACH (UINT64_C(1) << 20)

struct symbols;

struct symbols *symbols_new(void);
void symbols_free(struct symbols *symbols);
/* base is added to an ELF file's addresses. Bounded: files of 256 MiB, a million symbols. */
int symbols_load(struct symbols *symbols, const char *path, uint64_t base, struct err *err);
/* NULL: no function is known there. Valid until symbols_load or _free. */
const char *symbols_find(const struct symbols *symbols, uint64_t address);

#endif
