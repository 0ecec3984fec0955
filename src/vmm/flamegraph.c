/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of sorted stacks lie beside each other: no tree has to be built. */
#include "vmm/flamegraph.h"

#include "base/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH      1200.0
#define ROW        18u
#define HEAD       44u
#define DEPTH_MAX  64u
#define LETTER     6.6 /* width of one, about */
#define LEAST_DRAW 0.2 /* narrower frames are left out */

struct drawing {
    struct buf *out;
    uint64_t total;
    unsigned depth, height;
    int error;
};

static void put(struct drawing *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct drawing *d, const char *format, ...)
{
    char text[512];
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (d->error == 0 && length > 0)
        d->error = buf_append(d->out, text, MIN((size_t)length, sizeof(text) - 1));
}

static void put_text(struct drawing *d, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '<' || c == '>' || c == '&' || c == '"')
            put(d, "&#%u;", c);
        else
            put(d, "%c", c < ' ' ? '?' : c);
    }
}

/* Warm colours; the same name has the same one everywhere. */
static unsigned colour_of(const char *name, size_t length)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return (205 + hash % 50) << 16 | (80 + hash / 50 % 150) << 8 | hash / 7500 % 60;
}

static void frame(struct drawing *d, const char *name, size_t length, unsigned level,
                  uint64_t start, uint64_t count)
{
    double x = WIDTH * (double)start / (double)d->total;
    double width = WIDTH * (double)count / (double)d->total;
    unsigned y = d->height - (level + 1) * ROW - 4;
    size_t shown = (size_t)(width / LETTER);

    if (width < LEAST_DRAW)
        return;
    put(d, "<g><title>");
    put_text(d, name, length);
    put(d, ": %llu samples, %.2f %%</title>", (unsigned long long)count,
        100.0 * (double)count / (double)d->total);
    put(d,
        "<rect x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"%u\" rx=\"2\" fill=\"#%06x\" "
        "stroke=\"#fff\" stroke-width=\"0.5\"/>",
        x, y, width, ROW - 1, level ? colour_of(name, length) : 0xc8ccd4u);
    if (shown > 2) {
        put(d, "<text x=\"%.1f\" y=\"%u\">", x + 3, y + 13);
        put_text(d, name, length <= shown ? length : shown - 2);
        put(d, "%s</text>", length <= shown ? "" : "..");
    }
    put(d, "</g>\n");
}

/* The length of the first `level` frames of a stack with their last separator; 0: it is shorter. */
static size_t prefix_length(const char *stack, unsigned level)
{
    const char *at = stack;

    for (unsigned i = 0; i < level; i++) {
        at = strchr(at, ';');
        if (!at)
            return 0;
        at++;
    }
    return (size_t)(at - stack);
}

/* All frames of one level: neighbours with the same name and the same frames below are one. */
static void level_draw(struct drawing *d, const char *const *stacks, const uint64_t *counts,
                       size_t nr, unsigned level)
{
    uint64_t start = 0;

    for (size_t i = 0; i < nr;) {
        size_t prefix = prefix_length(stacks[i], level), length;
        uint64_t count = counts[i];
        size_t next = i + 1;

        if (level && !prefix) {
            start += counts[i++];
            continue;
        }
        length = strcspn(stacks[i] + prefix, ";");
        while (next < nr && !strncmp(stacks[i], stacks[next], prefix + length) &&
               (!stacks[next][prefix + length] || stacks[next][prefix + length] == ';'))
            count += counts[next++];
        frame(d, stacks[i] + prefix, length, level + 1, start, count);
        start += count;
        i = next;
    }
}

int flamegraph_draw(const char *title, const char *const *stacks, const uint64_t *counts, size_t nr,
                    struct buf *ret, struct err *err)
{
    struct drawing d = {.out = ret};

    for (size_t i = 0; i < nr; i++) {
        unsigned depth = 1;

        for (const char *c = stacks[i]; *c; c++)
            depth += *c == ';';
        d.depth = MAX(d.depth, MIN(depth, DEPTH_MAX));
        d.total += counts[i];
    }
    d.height = HEAD + (d.depth + 1) * ROW + 4;
    put(&d,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%u\" viewBox=\"0 0 %.0f "
        "%u\" font-family=\"monospace\" font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" "
        "fill=\"#fff\"/>\n<text x=\"4\" y=\"20\" font-size=\"14\">",
        WIDTH, d.height, WIDTH, d.height);
    put_text(&d, title, strlen(title));
    put(&d, "</text>\n");
    if (d.total) {
        frame(&d, "all", 3, 0, 0, d.total);
        for (unsigned level = 0; level < d.depth; level++)
            level_draw(&d, stacks, counts, nr, level);
    }
    put(&d, "</svg>\n");
    return d.error ? err_set(err, d.error, "the flame graph does not fit into memory") : 0;
}
