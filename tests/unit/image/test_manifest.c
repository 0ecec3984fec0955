/* SPDX-License-Identifier: Apache-2.0 */
/* References, digests, manifests, configurations and SHA-256 (vectors of FIPS 180-4's examples). */
#include "base/util.h"
#include "image/manifest.h"
#include "image/sha256.h"
#include "testing.h"

#include <string.h>

#define D "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

START_TEST(references)
{
    static const struct {
        const char *text, *whole; /* NULL: refused */
    } cases[] = {
        {"busybox", "busybox:latest"},
        {"busybox:1.36", "busybox:1.36"},
        {"localhost:5000/a/b", "localhost:5000/a/b:latest"},
        {"localhost:5000/a/b:c", "localhost:5000/a/b:c"},
        {"a__b-c.d", "a__b-c.d:latest"},
        {"", NULL},
        {":x", NULL},
        {"a:", NULL},
        {"../a", NULL},
        {"a/../b", NULL},
        {"a//b", NULL},
        {"a/", NULL},
        {"-a", NULL},
        {"a b", NULL},
        {"a\nb", NULL},
        {"a@b", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char whole[REFERENCE_MAX];
        int result = reference_normalize(cases[i].text, whole, NULL);

        ck_assert_msg((result == 0) == (cases[i].whole != NULL), "'%s'", cases[i].text);
        if (result == 0)
            ck_assert_str_eq(whole, cases[i].whole);
    }
}
END_TEST

START_TEST(manifests)
{
    static const char layer[] =
        "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"" D
        "\",\"size\":1}";
    static const struct {
        const char *config, *layers;
        int result;
    } cases[] = {
        {"{\"digest\":\"" D "\",\"size\":3}", layer, 0},
        {"{\"digest\":\"" D "\"}", layer, -EINVAL},
        {"{\"digest\":\"sha256:../../../x\",\"size\":3}", layer, -EINVAL},
        {"{\"digest\":\"sha512:00\",\"size\":3}", layer, -EINVAL},
        {"{\"digest\":\"" D "\",\"size\":-3}", layer, -EINVAL},
        {"{\"digest\":\"" D "\",\"size\":3}", "", -EINVAL},
        {"{\"digest\":\"" D "\",\"size\":3}", "7", -EINVAL},
        {"{\"digest\":\"" D "\",\"size\":3}",
         "{\"mediaType\":\"text/x\",\"digest\":\"" D "\",\"size\":1}", -ENOTSUP},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct manifest manifest;
        struct err err = ERR_INIT;
        char text[2048];
        int n = snprintf(text, sizeof(text), "{\"config\":%s,\"layers\":[%s]}", cases[i].config,
                         cases[i].layers);

        ck_assert_msg(manifest_parse(text, (size_t)n, "test", &manifest, &err) == cases[i].result,
                      "case %zu", i);
        if (cases[i].result == 0)
            ck_assert_uint_eq(manifest.layers[0].bytes, 1);
    }
}
END_TEST

START_TEST(too_many_layers)
{
    struct err err = ERR_INIT;
    struct manifest *manifest = malloc(sizeof(*manifest));
    char *text = malloc(64 << 10), *at = text;

    at += sprintf(at, "{\"config\":{\"digest\":\"" D "\",\"size\":3},\"layers\":[");
    for (unsigned i = 0; i < MANIFEST_LAYERS + 1; i++)
        at += sprintf(at,
                      "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"" D
                      "\",\"size\":1}",
                      i ? "," : "");
    at += sprintf(at, "]}");
    ck_assert_int_eq(manifest_parse(text, (size_t)(at - text), "test", manifest, &err), -EINVAL);
    free(text);
    free(manifest);
}
END_TEST

START_TEST(picks_the_platform)
{
    static const char text[] =
        "{\"manifests\":[{\"digest\":\"sha256:"
        "1111111111111111111111111111111111111111111111111111111111111111\",\"size\":1,"
        "\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}},{\"digest\":\"" D
        "\",\"size\":2,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}";
    static const char other[] = "{\"manifests\":[{\"digest\":\"" D "\",\"size\":1,\"platform\":{"
                                "\"os\":\"linux\",\"architecture\":\"s390x\"}}]}";
    struct descriptor picked;
    bool is_index;

    ck_assert_int_eq(manifest_pick(text, strlen(text), "t", &is_index, &picked, NULL), 0);
    ck_assert(is_index);
    ck_assert_str_eq(picked.digest, D);
    ck_assert_int_eq(manifest_pick(other, strlen(other), "t", &is_index, &picked, NULL), -ENOENT);
    ck_assert_int_eq(manifest_pick("{}", 2, "t", &is_index, &picked, NULL), 0);
    ck_assert(!is_index);
}
END_TEST

START_TEST(digests)
{
    static const struct {
        const char *text, *hex;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };

    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        for (unsigned instructions = 0; instructions < 2; instructions++) {
            struct sha256 sha;
            uint8_t hash[32];
            char text[DIGEST_MAX];

            sha256_init(&sha);
            sha.instructions &= instructions; /* the portable form as well */
            for (const char *c = vectors[i].text; *c; c++)
                sha256_update(&sha, c, 1);
            sha256_final(&sha, hash);
            digest_format(hash, text);
            ck_assert_str_eq(digest_hex(text), vectors[i].hex);
            ck_assert(digest_valid(text));
        }
}
END_TEST

/* A million times 'a', in pieces of every size. */
START_TEST(long_digest)
{
    static const char hex[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    struct sha256 sha;
    uint8_t hash[32];
    char text[DIGEST_MAX], piece[1000];
    size_t left = 1000000;

    memset(piece, 'a', sizeof(piece));
    sha256_init(&sha);
    for (size_t n = 1; left; n = n % 997 + 1) {
        size_t part = MIN(n, left);

        sha256_update(&sha, piece, part);
        left -= part;
    }
    sha256_final(&sha, hash);
    digest_format(hash, text);
    ck_assert_str_eq(digest_hex(text), hex);
}
END_TEST

TEST_MAIN("manifest", tcase_add_test(tcase, references); tcase_add_test(tcase, manifests);
          tcase_add_test(tcase, too_many_layers); tcase_add_test(tcase, picks_the_platform);
          tcase_add_test(tcase, digests); tcase_add_test(tcase, long_digest);)
