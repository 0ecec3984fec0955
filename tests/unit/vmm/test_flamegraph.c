/* SPDX-License-Identifier: Apache-2.0 */
/* The flame graph: which rectangles it has, where, and how wide. */
#include "testing.h"

#include "base/util.h"
#include "vmm/flamegraph.h"

#include <string.h>

static const char *const stacks[] = {"kernel;a", "kernel;b", "kernel;b;c", "user;a<b>"};
static const uint64_t counts[] = {10, 20, 30, 40};

static void draw(struct buf *svg)
{
    struct err err = ERR_INIT;

    buf_init(svg, 1 << 20);
    ck_assert_int_eq(flamegraph_draw("t&t", stacks, counts, 4, svg, &err), 0);
    ck_assert_int_eq(buf_append(svg, "", 1), 0);
}

START_TEST(frames_are_as_wide_as_their_share)
{
    static const struct {
        const char *title, *x, *width;
    } frames[] = {
        {"<title>all: 100 samples, 100.00 %", "x=\"0.0\"", "width=\"1200.0\""},
        {"<title>kernel: 60 samples, 60.00 %", "x=\"0.0\"", "width=\"720.0\""},
        {"<title>a: 10 samples, 10.00 %", "x=\"0.0\"", "width=\"120.0\""},
        {"<title>b: 50 samples, 50.00 %", "x=\"120.0\"", "width=\"600.0\""},
        {"<title>c: 30 samples, 30.00 %", "x=\"360.0\"", "width=\"360.0\""},
        {"<title>user: 40 samples, 40.00 %", "x=\"720.0\"", "width=\"480.0\""},
        {"<title>a&#60;b&#62;: 40 samples", "x=\"720.0\"", "width=\"480.0\""},
    };
    struct buf svg;
    unsigned nr = 0;

    draw(&svg);
    for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
        const char *at = strstr(svg.data, frames[i].title), *end;

        ck_assert_msg(at, "no %s", frames[i].title);
        end = strstr(at, "</g>");
        ck_assert_msg(strstr(at, frames[i].x) && strstr(at, frames[i].x) < end, "%s: x",
                      frames[i].title);
        ck_assert_msg(strstr(at, frames[i].width) && strstr(at, frames[i].width) < end, "%s: width",
                      frames[i].title);
    }
    for (const char *at = svg.data; (at = strstr(at, "<title>")); at++)
        nr++;
    ck_assert_uint_eq(nr, ARRAY_LEN(frames));
    buf_done(&svg);
}
END_TEST

START_TEST(nothing_is_a_graph_too)
{
    struct err err = ERR_INIT;
    struct buf svg;

    buf_init(&svg, 4096);
    ck_assert_int_eq(flamegraph_draw("none", NULL, NULL, 0, &svg, &err), 0);
    ck_assert_ptr_nonnull(memmem(svg.data, svg.length, "</svg>", 6));
    ck_assert_ptr_null(memmem(svg.data, svg.length, "<title>", 7));
    buf_done(&svg);
}
END_TEST

START_TEST(its_memory_has_a_cap)
{
    struct err err = ERR_INIT;
    struct buf svg;

    buf_init(&svg, 500);
    ck_assert_int_lt(flamegraph_draw("t", stacks, counts, 4, &svg, &err), 0);
    buf_done(&svg);
}
END_TEST

TEST_MAIN("vmm_flamegraph", tcase_add_test(tcase, frames_are_as_wide_as_their_share);
          tcase_add_test(tcase, nothing_is_a_graph_too);
          tcase_add_test(tcase, its_memory_has_a_cap))
