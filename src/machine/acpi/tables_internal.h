/* SPDX-License-Identifier: Apache-2.0 */
/* Between dsdt.c and tables.c. */
#ifndef LODGE_MACHINE_ACPI_TABLES_INTERNAL_H
#define LODGE_MACHINE_ACPI_TABLES_INTERNAL_H

#include "base/buf.h"
#include "machine/acpi/aml.h"
#include "machine/pci.h"

#include <stdint.h>

/* Appends a table: standard header with checksum, and body. 0 or a negative errno. */
int acpi_add_table(struct buf *out, const char *signature, uint8_t revision, const void *body,
                   size_t length);

/* The bridge, in \\_SB, and the event, at the root. */
void acpi_add_pci(struct aml *aml, const unsigned *gsis);
void acpi_add_pci_event(struct aml *aml);

#endif
