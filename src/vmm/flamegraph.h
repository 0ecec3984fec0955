/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collapsed stacks ("a;b;c 17" lines) drawn as a flame graph: one SVG file without scripts, a frame
 * a rectangle, as wide as its share of all samples, on top of the frame that it is below. The
 * root is at the bottom; siblings in the order of their names. Private to vmm/.
 */
#ifndef LODGE_VMM_FLAMEGRAPH_H
#define LODGE_VMM_FLAMEGRAPH_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* stacks: sorted, without two that are equal. Appends the SVG to ret. */
int flamegraph_draw(const char *title, const char *const *stacks, const uint64_t *counts, size_t nr,
                    struct buf *ret, struct err *err);

#endif
