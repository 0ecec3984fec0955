/* SPDX-License-Identifier: Apache-2.0 */
/* FNV-1a against the vectors that its authors publish. */
#include "base/hash.h"
#include "testing.h"

#include <string.h>

static const struct {
    const char *text;
    uint64_t hash;
} vectors[] = {
    {"", UINT64_C(0xcbf29ce484222325)},
    {"a", UINT64_C(0xaf63dc4c8601ec8c)},
    {"foobar", UINT64_C(0x85944171f73967e8)},
};

START_TEST(published_vectors)
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        ck_assert_uint_eq(hash_bytes(HASH_START, vectors[i].text, strlen(vectors[i].text)),
                          vectors[i].hash);
}
END_TEST

START_TEST(in_parts_as_in_one)
{
    uint64_t hash = hash_bytes(HASH_START, "foo", 3);

    ck_assert_uint_eq(hash_bytes(hash, "bar", 3), hash_bytes(HASH_START, "foobar", 6));
    ck_assert_uint_ne(hash_bytes(HASH_START, "bar", 3), hash_bytes(HASH_START, "foo", 3));
}
END_TEST

TEST_MAIN("hash", tcase_add_test(tcase, published_vectors);
          tcase_add_test(tcase, in_parts_as_in_one);)
