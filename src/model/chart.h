/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Charts as SVG 1.1, without scripts or fonts of their own: they open in any browser and print.
 * Names come from users and are escaped. The caller owns `out`.
 */
#ifndef LODGE_MODEL_CHART_H
#define LODGE_MODEL_CHART_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

#define CHART_ROWS_MAX   200   /* of a Gantt chart; more are left out, and that is said */
#define CHART_SLICES_MAX 20000 /* the same */
#define CHART_BYTES_MAX  (16u << 20)

struct chart_slice {
    uint32_t row;    /* which job */
    uint32_t server; /* gives the colour */
    double start, end;
};

/* One row a job: grey while it waits (from arrival to end), coloured while it runs. */
int chart_gantt(struct buf *out, const char *title, const char *const *names,
                const double *arrivals, const double *ends, size_t nr_rows,
                const struct chart_slice *slices, size_t nr_slices);

struct chart_line {
    const char *name;
    const double *x, *y; /* points that are not finite break the line */
    size_t nr;
    const double *low, *high; /* confidence band; may be NULL */
};

struct chart_axes {
    const char *title, *x, *y; /* with their units */
    double mark;               /* a vertical line there, with a label; NAN: none */
    const char *mark_label;
    double y_most; /* cuts the axis; 0: the largest value */
};

int chart_lines(struct buf *out, const struct chart_axes *axes, const struct chart_line *lines,
                size_t nr);

/* Horizontal bars of shares 0..1 (utilisation); above 0.8 in a warning colour. */
int chart_bars(struct buf *out, const char *title, const char *const *names, const double *values,
               size_t nr);

#endif
