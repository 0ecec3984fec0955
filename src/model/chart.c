/* SPDX-License-Identifier: Apache-2.0 */
/* Layout: a margin for labels on the left, the plot, the axis below; one scale function a
 * direction. Every buffer call's failure is kept until the end (buf has a cap). */
#include "model/chart.h"

#include "base/util.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Colours that stay apart for colour-blind eyes (Okabe and Ito). */
static const char *const colours[] = {"#0072b2", "#e69f00", "#009e73", "#cc79a7",
                                      "#56b4e9", "#d55e00", "#f0e442", "#666666"};

static const char *colour(size_t i)
{
    return colours[i % ARRAY_LEN(colours)];
}

static __attribute__((format(printf, 3, 4))) void put(struct buf *out, int *r, const char *format,
                                                      ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (*r == 0)
        *r = buf_append_string(out, text);
}

static void put_escaped(struct buf *out, int *r, const char *text)
{
    for (; *text && *r == 0; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '<')
            *r = buf_append_string(out, "&lt;");
        else if (c == '&')
            *r = buf_append_string(out, "&amp;");
        else if (c == '>')
            *r = buf_append_string(out, "&gt;");
        else
            *r = buf_append(out, c < 0x20 || c > 0x7e ? "?" : text, 1);
    }
}

static void put_text(struct buf *out, int *r, double x, double y, const char *attributes,
                     const char *text)
{
    put(out, r, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
    put_escaped(out, r, text);
    put(out, r, "</text>\n");
}

static void open_svg(struct buf *out, int *r, double width, double height, const char *title)
{
    put(out, r,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 "
        "%.0f %.0f\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" "
        "fill=\"#222\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
        width, height, width, height);
    put_text(out, r, 16, 24, "font-size=\"15\" font-weight=\"bold\"", title);
}

/* 1, 2 or 5 times a power of ten, so that about `wanted` steps make the range. */
static double nice_step(double range, double wanted)
{
    double raw = range / wanted, power = pow(10, floor(log10(raw))), digit = raw / power;

    return (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10) * power;
}

struct scale {
    double from, to, at, length;
};

static double place(const struct scale *s, double value)
{
    double share = s->to > s->from ? (value - s->from) / (s->to - s->from) : 0;

    return s->at + s->length * fmin(fmax(share, -0.01), 1.01);
}

/* The i-th line of an axis with about `wanted` of them: where it is, and its number. */
static bool tick(const struct scale *s, double wanted, int i, double *ret_at, char text[32])
{
    double step = nice_step(s->to - s->from, wanted);
    double value = ceil(s->from / step) * step + i * step;

    if (i == 40 || value > s->to + step * 1e-6)
        return false;
    snprintf(text, 32, "%.6g", fabs(value) < step * 1e-6 ? 0 : value);
    *ret_at = place(s, value);
    return true;
}

static void grid_line(struct buf *out, int *r, double x1, double y1, double x2, double y2)
{
    put(out, r, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>\n", x1,
        y1, x2, y2);
}

static void axis_x(struct buf *out, int *r, const struct scale *x, double top, double bottom)
{
    char text[32];
    double at;

    for (int i = 0; tick(x, 8, i, &at, text); i++) {
        grid_line(out, r, at, top, at, bottom);
        put_text(out, r, at, bottom + 16, "text-anchor=\"middle\"", text);
    }
}

static void axis_y(struct buf *out, int *r, const struct scale *y, double left, double right)
{
    char text[32];
    double at;

    for (int i = 0; tick(y, 6, i, &at, text); i++) {
        grid_line(out, r, left, at, right, at);
        put_text(out, r, left - 6, at + 4, "text-anchor=\"end\"", text);
    }
}

int chart_gantt(struct buf *out, const char *title, const char *const *names,
                const double *arrivals, const double *ends, size_t nr_rows,
                const struct chart_slice *slices, size_t nr_slices)
{
    size_t rows = MIN(nr_rows, (size_t)CHART_ROWS_MAX);
    size_t drawn = MIN(nr_slices, (size_t)CHART_SLICES_MAX);
    double height = rows > 40 ? 12 : 22, top = 44, bottom = top + height * (double)rows;
    struct scale x = {0, 0, 110, 740};
    int r = 0;

    for (size_t i = 0; i < rows; i++) {
        x.from = i == 0 ? arrivals[i] : fmin(x.from, arrivals[i]);
        x.to = fmax(x.to, ends[i]);
    }
    x.to = x.to > x.from ? x.to : x.from + 1;
    open_svg(out, &r, 880, bottom + (rows < nr_rows || drawn < nr_slices ? 62 : 44), title);
    axis_x(out, &r, &x, top, bottom);
    put_text(out, &r, x.at + x.length / 2, bottom + 34, "text-anchor=\"middle\"", "time (s)");
    for (size_t i = 0; i < rows; i++) {
        double y = top + height * (double)i;
        char name[32];

        snprintf(name, sizeof(name), "%.15s", names[i]);
        put_text(out, &r, x.at - 8, y + height / 2 + 4,
                 rows > 40 ? "text-anchor=\"end\" font-size=\"9\"" : "text-anchor=\"end\"", name);
        put(out, &r, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#ddd\"/>\n",
            place(&x, arrivals[i]), y + height * .38,
            fmax(place(&x, ends[i]) - place(&x, arrivals[i]), 0), height * .24);
    }
    for (size_t i = 0; i < drawn; i++) {
        const struct chart_slice *s = &slices[i];

        if (s->row >= rows)
            continue;
        put(out, &r,
            "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\" "
            "stroke=\"#fff\" stroke-width=\"0.5\"><title>",
            place(&x, s->start), top + height * ((double)s->row + .12),
            fmax(place(&x, s->end) - place(&x, s->start), .2), height * .76, colour(s->server));
        put_escaped(out, &r, names[s->row]);
        put(out, &r, ": %.6g - %.6g, server %u</title></rect>\n", s->start, s->end, s->server + 1);
    }
    if (rows < nr_rows || drawn < nr_slices) {
        char text[128];

        snprintf(text, sizeof(text), "the first %zu of %zu jobs, %zu of %zu slices", rows, nr_rows,
                 drawn, nr_slices);
        put_text(out, &r, 16, bottom + 54, "fill=\"#666\"", text);
    }
    put(out, &r, "</svg>\n");
    return r;
}

static void draw_band(struct buf *out, int *r, const struct chart_line *line, size_t i,
                      const struct scale *x, const struct scale *y)
{
    size_t first = line->nr, last = 0;

    for (size_t k = 0; k < line->nr; k++)
        if (isfinite(line->low[k]) && isfinite(line->high[k])) {
            first = MIN(first, k);
            last = k;
        }
    if (first >= last)
        return;
    put(out, r, "<polygon fill=\"%s\" fill-opacity=\"0.18\" points=\"", colour(i));
    for (size_t k = first; k <= last; k++)
        if (isfinite(line->low[k]))
            put(out, r, "%.1f,%.1f ", place(x, line->x[k]), place(y, line->low[k]));
    for (size_t k = last + 1; k-- > first;)
        if (isfinite(line->high[k]))
            put(out, r, "%.1f,%.1f ", place(x, line->x[k]), place(y, line->high[k]));
    put(out, r, "\"/>\n");
}

static void draw_line(struct buf *out, int *r, const struct chart_line *line, size_t i,
                      const struct scale *x, const struct scale *y)
{
    bool open = false, above = false;

    if (line->low && line->high)
        draw_band(out, r, line, i, x, y);
    put(out, r, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"", colour(i));
    for (size_t k = 0; k < line->nr && !above; k++) {
        double value = line->y[k];

        if (!isfinite(value)) {
            open = false;
            continue;
        }
        above = value > y->to; /* up to where it leaves the plot */
        if (above && open && k > 0 && value > line->y[k - 1]) {
            double share = (y->to - line->y[k - 1]) / (value - line->y[k - 1]);

            put(out, r, "L%.1f %.1f",
                place(x, line->x[k - 1] + share * (line->x[k] - line->x[k - 1])),
                y->at + y->length);
            break;
        }
        put(out, r, "%c%.1f %.1f", open ? 'L' : 'M', place(x, line->x[k]), place(y, value));
        open = true;
    }
    put(out, r, "\"/>\n");
}

int chart_lines(struct buf *out, const struct chart_axes *axes, const struct chart_line *lines,
                size_t nr)
{
    struct scale x = {(double)INFINITY, -(double)INFINITY, 76, 600};
    struct scale y = {0, 0, 344, -290};
    double right = x.at + x.length, step;
    int r = 0;

    for (size_t i = 0; i < nr; i++)
        for (size_t k = 0; k < lines[i].nr; k++) {
            x.from = fmin(x.from, lines[i].x[k]);
            x.to = fmax(x.to, lines[i].x[k]);
            if (isfinite(lines[i].y[k]))
                y.to = fmax(y.to, lines[i].y[k]);
        }
    if (!(x.to > x.from))
        x.to = x.from + 1;
    y.to = y.to > 0 ? y.to * 1.05 : 1;
    step = nice_step(y.to, 6);
    y.to = ceil(y.to / step) * step;
    if (axes->y_most > 0)
        y.to = fmin(y.to, axes->y_most);
    open_svg(out, &r, 880, 400, axes->title);
    axis_x(out, &r, &x, y.at + y.length, y.at);
    axis_y(out, &r, &y, x.at, right);
    put(out, &r, "<path d=\"M%.1f %.1fV%.1fH%.1f\" fill=\"none\" stroke=\"#222\"/>\n", x.at,
        y.at + y.length, y.at, right);
    put_text(out, &r, x.at + x.length / 2, y.at + 38, "text-anchor=\"middle\"", axes->x);
    put(out, &r, "<g transform=\"translate(20 %.1f) rotate(-90)\">", y.at + y.length / 2);
    put_text(out, &r, 0, 0, "text-anchor=\"middle\"", axes->y);
    put(out, &r, "</g>\n");
    for (size_t i = 0; i < nr; i++) {
        draw_line(out, &r, &lines[i], i, &x, &y);
        put(out, &r,
            "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
            "stroke-width=\"3\"/>\n",
            right + 16, 66 + 20 * (double)i, right + 40, 66 + 20 * (double)i, colour(i));
        put_text(out, &r, right + 48, 70 + 20 * (double)i, "", lines[i].name);
    }
    if (isfinite(axes->mark) && axes->mark >= x.from && axes->mark <= x.to) {
        put(out, &r,
            "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#d55e00\" "
            "stroke-dasharray=\"5 4\"/>\n",
            place(&x, axes->mark), y.at, place(&x, axes->mark), y.at + y.length);
        put_text(out, &r, place(&x, axes->mark) - 5, y.at + y.length + 12,
                 "text-anchor=\"end\" fill=\"#d55e00\"", axes->mark_label);
    }
    put(out, &r, "</svg>\n");
    return r;
}

int chart_bars(struct buf *out, const char *title, const char *const *names, const double *values,
               size_t nr)
{
    size_t rows = MIN(nr, (size_t)CHART_ROWS_MAX);
    struct scale x = {0, 1, 150, 560};
    double top = 44, bottom = top + 24 * (double)rows;
    int r = 0;

    open_svg(out, &r, 800, bottom + 44, title);
    axis_x(out, &r, &x, top, bottom);
    put_text(out, &r, x.at + x.length / 2, bottom + 34, "text-anchor=\"middle\"", "utilisation");
    for (size_t i = 0; i < rows; i++) {
        double y = top + 24 * (double)i, value = isfinite(values[i]) ? values[i] : 0;
        char text[32], name[40];

        snprintf(name, sizeof(name), "%.22s", names[i]);
        put_text(out, &r, x.at - 8, y + 16, "text-anchor=\"end\"", name);
        put(out, &r, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"16\" fill=\"%s\"/>\n",
            x.at, y + 4, fmax(place(&x, value) - x.at, 0), value > .8 ? colours[5] : colours[0]);
        snprintf(text, sizeof(text), "%.1f %%", 100 * value);
        put_text(out, &r, place(&x, value) + 6, y + 16, "", text);
    }
    put(out, &r, "</svg>\n");
    return r;
}
