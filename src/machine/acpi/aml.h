/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small writer of ACPI machine language (ACPI 6.4 chapter 20): just the terms that our DSDT
 * needs. Terms are appended to a buffer; a container is opened, filled and closed:
 *
 *   size_t device = aml_device_begin(aml, "COM1");
 *   aml_name_string(aml, "_HID", "PNP0501");
 *   aml_end(aml, device);
 *
 * A failure (out of memory, past the cap) is remembered in aml->error and makes all further calls
 * do nothing; the caller looks once, at the end. Names are four characters; a path is a root and
 * such names with dots between: "\\_SB_.PCI0.S001".
 */
#ifndef LODGE_MACHINE_ACPI_AML_H
#define LODGE_MACHINE_ACPI_AML_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
    struct buf out;
    int error; /* the first failure */
};

void aml_init(struct aml *aml, size_t cap);
void aml_done(struct aml *aml);

/* Containers: begin gives a mark for end. */
size_t aml_scope_begin(struct aml *aml, const char *name);  /* "\\_SB_" */
size_t aml_device_begin(struct aml *aml, const char *name); /* "COM1" */
size_t aml_package_begin(struct aml *aml, unsigned nr_elements);
size_t aml_resources_begin(struct aml *aml); /* Buffer with a resource template; as _CRS's value */
void aml_end(struct aml *aml, size_t mark);
void aml_resources_end(struct aml *aml, size_t mark);

void aml_name(struct aml *aml, const char *name); /* NameOp and name; the value follows */
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *string);
void aml_eisa_id(struct aml *aml, const char *id); /* "PNP0501" */

/* Name (name, value) */
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
void aml_name_string(struct aml *aml, const char *name, const char *value);
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id);

/* Methods and what is in them (20.2.5): operands are written one after the other. */
size_t aml_method_begin(struct aml *aml, const char *name, unsigned nr_arguments);
size_t aml_if_begin(struct aml *aml); /* the predicate follows, then what is done */
void aml_region_io(struct aml *aml, const char *name, uint16_t port, uint8_t length);
/* 32-bit fields of a region, from its beginning. */
void aml_fields32(struct aml *aml, const char *region, const char *const *names, unsigned nr);
void aml_and(struct aml *aml, const char *path, uint64_t mask);
void aml_store(struct aml *aml, uint64_t value, const char *path);
void aml_notify(struct aml *aml, const char *path, uint64_t value);

/* Resource descriptors (ACPI 6.4 6.4). */
void aml_resource_io(struct aml *aml, uint16_t port, uint8_t length);
void aml_resource_irq(struct aml *aml, unsigned irq); /* edge, active high, exclusive */
void aml_resource_memory32(struct aml *aml, uint32_t base, uint32_t length);
/* Consumer, level, active high, exclusive. */
void aml_resource_interrupt(struct aml *aml, uint32_t gsi);

void aml_resource_bus_numbers(struct aml *aml, uint16_t first, uint16_t last);
/* What a bridge passes on. */
void aml_resource_memory_window(struct aml *aml, uint32_t base, uint32_t length);

#endif
