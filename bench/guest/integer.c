/* SPDX-License-Identifier: Apache-2.0 */
/* Integer kernels: what compilers make of ordinary C, a few tens of milliseconds each. */
#include "work.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct node {
    struct node *next;
    uint64_t value, spare[2];
};

#define LIST_NODES 16384u

static uint64_t run_list(unsigned scale)
{
    static struct node nodes[LIST_NODES];
    static unsigned order[LIST_NODES];
    uint64_t sum = 0, random = 88172645463325252ull;
    struct node *node;

    for (unsigned i = 0; i < LIST_NODES; i++)
        order[i] = i;
    for (unsigned i = LIST_NODES - 1; i > 0; i--) {
        unsigned j = (unsigned)(work_random(&random) % (i + 1)), swap = order[i];

        order[i] = order[j];
        order[j] = swap;
    }
    for (unsigned i = 0; i < LIST_NODES; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % LIST_NODES]];
        nodes[order[i]].value = order[i];
    }
    node = nodes;
    for (unsigned i = 0; i < LIST_NODES * 240 * scale; i++) {
        sum = (sum << 1 | sum >> 63) + node->value;
        node = node->next;
    }
    return sum;
}

static uint64_t run_matrix(unsigned scale)
{
    enum { N = 64 };
    static int32_t a[N][N], b[N][N], c[N][N];
    uint64_t sum = 0;

    for (unsigned round = 0; round < 500 * scale; round++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                a[i][j] = i + j + (int)round, b[i][j] = i - j;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                int32_t dot = 0;

                for (int k = 0; k < N; k++)
                    dot += a[i][k] * b[k][j];
                c[i][j] = dot;
            }
        sum += (uint64_t)(uint32_t)c[7][9] + (uint32_t)c[40][3];
    }
    return sum;
}

/* A scanner for a C-like text: one switch per byte. */
static uint64_t run_state(unsigned scale)
{
    enum state { SPACE, WORD, NUMBER, STRING, ESCAPE, SLASH, COMMENT, STAR, OTHER };
    static const char source[] =
        "int main(void) { /* counts * things */ char *s = \"a \\\"word\\\" here\"; for (int i = 0; "
        "i < 1024; i++) total += weights[i] / 3 - offset_2; return total > 77 ? 0 : 1; }\n";
    uint64_t counts[9] = {0}, sum = 0;
    enum state state = SPACE;

    for (unsigned round = 0; round < 180000 * scale; round++) {
        for (const char *at = source; *at; at++) {
            char c = *at;

            switch (state) {
            case STRING:
                state = c == '\\' ? ESCAPE : c == '"' ? SPACE : STRING;
                break;
            case ESCAPE:
                state = STRING;
                break;
            case COMMENT:
                state = c == '*' ? STAR : COMMENT;
                break;
            case STAR:
                state = c == '/' ? SPACE : c == '*' ? STAR : COMMENT;
                break;
            case SLASH:
                if (c == '*') {
                    state = COMMENT;
                    break;
                } /* fallthrough */
            default:
                if ((c >= 'a' && c <= 'z') || c == '_')
                    state = state == NUMBER ? NUMBER : WORD;
                else if (c >= '0' && c <= '9')
                    state = state == WORD ? WORD : NUMBER;
                else if (c == '"')
                    state = STRING;
                else if (c == '/')
                    state = SLASH;
                else
                    state = c == ' ' || c == '\n' ? SPACE : OTHER;
            }
            counts[state]++;
        }
    }
    for (unsigned i = 0; i < 9; i++)
        sum = sum * 31 + counts[i];
    return sum;
}

static uint32_t crc_table[256];

static void crc_prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;

        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
        crc_table[i] = value;
    }
}

static uint32_t crc_of(const uint8_t *data, size_t length, uint32_t crc)
{
    for (size_t i = 0; i < length; i++)
        crc = crc_table[(crc ^ data[i]) & 255] ^ crc >> 8;
    return crc;
}

static uint64_t run_crc(unsigned scale)
{
    static uint8_t data[65536];
    uint32_t crc = ~0u;

    crc_prepare();
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 >> 3);
    for (unsigned round = 0; round < 160 * scale; round++)
        crc = crc_of(data, sizeof(data), crc);
    return crc;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint64_t run_qsort(unsigned scale)
{
    static uint32_t data[20000];
    uint32_t seed = 12345;
    uint64_t sum = 0;

    for (unsigned round = 0; round < 14 * scale; round++) {
        for (unsigned i = 0; i < 20000; i++)
            data[i] = seed = seed * 1664525u + 1013904223u;
        qsort(data, 20000, sizeof(data[0]), compare);
        sum += data[1000] ^ data[19000];
    }
    return sum;
}

#define HASH_SLOTS 65536u

/* Open addressing, filled to three quarters, every key looked up once more. */
static uint64_t hash_round(uint64_t *keys)
{
    uint64_t found = 0;

    memset(keys, 0, HASH_SLOTS * sizeof(keys[0]));
    for (unsigned pass = 0; pass < 2; pass++) {
        uint64_t random = 42;

        for (unsigned i = 0; i < 48000; i++) {
            uint64_t key = work_random(&random), slot = key * 0xff51afd7ed558ccdull >> 48;

            while (keys[slot] && keys[slot] != key)
                slot = (slot + 1) & (HASH_SLOTS - 1);
            keys[slot] = key;
            found += slot;
        }
    }
    return found;
}

static uint64_t run_hash(unsigned scale)
{
    static uint64_t keys[HASH_SLOTS];
    uint64_t sum = 0;

    for (unsigned round = 0; round < 30 * scale; round++)
        sum = sum * 3 + hash_round(keys);
    return sum;
}

enum { OP_ADD, OP_XOR, OP_ROTATE, OP_STEP, OP_SUB, OP_SCALE, OP_STORE, OP_LOAD, OP_LOOP };

static uint64_t run_bytecode(unsigned scale)
{
    static const uint8_t program[] = {OP_ADD,  OP_XOR,   OP_ROTATE, OP_STEP, OP_XOR,
                                      OP_SUB,  OP_STORE, OP_SCALE,  OP_LOAD, OP_ADD,
                                      OP_STEP, OP_STORE, OP_LOOP};
    uint64_t a = 1, b = 2, count = 4000000ull * scale, memory[64] = {0};
    unsigned at = 0;

    for (;;) {
        switch (program[at++]) {
        case OP_ADD:
            a += b;
            break;
        case OP_XOR:
            b ^= a;
            break;
        case OP_ROTATE:
            a = a << 7 | a >> 57;
            break;
        case OP_STEP:
            b += 3;
            break;
        case OP_SUB:
            a -= b >> 3;
            break;
        case OP_SCALE:
            b = b * 5 + 1;
            break;
        case OP_STORE:
            memory[a & 63] = b;
            break;
        case OP_LOAD:
            b += memory[b & 63];
            break;
        default:
            if (!--count)
                return a ^ b;
            at = 0;
        }
    }
}

/* A b-tree of minimum degree 8: at most 15 keys a node. */
enum { DEGREE = 8, KEYS = 2 * DEGREE - 1 };

struct leaf {
    unsigned nr;
    unsigned inner;
    uint64_t key[KEYS];
    struct leaf *child[KEYS + 1];
};

struct btree {
    struct leaf *root, *pool;
    unsigned used, limit;
};

static struct leaf *leaf_new(struct btree *tree, unsigned inner)
{
    struct leaf *leaf;

    if (tree->used == tree->limit)
        work_fail("b-tree: pool");
    leaf = &tree->pool[tree->used++];
    leaf->nr = 0;
    leaf->inner = inner;
    return leaf;
}

static void child_split(struct btree *tree, struct leaf *parent, unsigned at)
{
    struct leaf *left = parent->child[at], *right = leaf_new(tree, left->inner);

    right->nr = DEGREE - 1;
    memcpy(right->key, left->key + DEGREE, (DEGREE - 1) * sizeof(right->key[0]));
    if (left->inner)
        memcpy(right->child, left->child + DEGREE, DEGREE * sizeof(right->child[0]));
    left->nr = DEGREE - 1;
    for (unsigned i = parent->nr; i > at; i--) {
        parent->key[i] = parent->key[i - 1];
        parent->child[i + 1] = parent->child[i];
    }
    parent->key[at] = left->key[DEGREE - 1];
    parent->child[at + 1] = right;
    parent->nr++;
}

static void btree_insert(struct btree *tree, uint64_t key)
{
    struct leaf *node = tree->root;

    if (node->nr == KEYS) {
        tree->root = leaf_new(tree, 1);
        tree->root->child[0] = node;
        child_split(tree, tree->root, 0);
        node = tree->root;
    }
    for (;;) {
        unsigned at = node->nr;

        while (at > 0 && key < node->key[at - 1])
            at--;
        if (at > 0 && node->key[at - 1] == key)
            return;
        if (!node->inner) {
            memmove(node->key + at + 1, node->key + at, (node->nr - at) * sizeof(key));
            node->key[at] = key;
            node->nr++;
            return;
        }
        if (node->child[at]->nr == KEYS) {
            child_split(tree, node, at);
            at += key > node->key[at];
        }
        node = node->child[at];
    }
}

static unsigned btree_depth_of(const struct btree *tree, uint64_t key)
{
    const struct leaf *node = tree->root;

    for (unsigned depth = 1;; depth++) {
        unsigned at = 0;

        while (at < node->nr && node->key[at] < key)
            at++;
        if (at < node->nr && node->key[at] == key)
            return depth;
        if (!node->inner)
            return 0;
        node = node->child[at];
    }
}

static uint64_t run_btree(unsigned scale)
{
    static struct leaf pool[12000];
    uint64_t sum = 0;

    for (unsigned round = 0; round < 6 * scale; round++) {
        struct btree tree = {.pool = pool, .limit = 12000};
        uint64_t random = 424242 + round;

        tree.root = leaf_new(&tree, 0);
        for (unsigned i = 0; i < 40000; i++)
            btree_insert(&tree, work_random(&random) >> 40);
        random = 424242 + round;
        for (unsigned i = 0; i < 40000; i++)
            sum += btree_depth_of(&tree, (work_random(&random) >> 40) ^ (i & 1));
    }
    return sum;
}

static uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t run_fib(unsigned scale)
{
    uint64_t (*volatile f)(uint64_t) = fib;
    uint64_t sum = 0;

    for (unsigned i = 0; i < scale; i++)
        sum += f(37);
    return sum;
}

static uint64_t run_divide(unsigned scale)
{
    uint64_t sum = 0;

    for (uint64_t i = 3; i < 12000000ull * scale; i++)
        sum += 0x123456789abcdefull / i + 0x123456789abcdefull % i;
    return sum;
}

static uint64_t run_memcpy(unsigned scale)
{
    static char a[65536], b[65536];
    void *(*volatile copy)(void *, const void *, size_t) = memcpy;

    memset(a, 0, sizeof(a));
    for (unsigned i = 0; i < 20000 * scale; i++) {
        a[i & 65535]++;
        copy(b, a, sizeof(b));
    }
    return work_hash_bytes(WORK_HASH_START, b, sizeof(b));
}

/* What each thread of threads1 and threads2 does: sorting, hashing, checksums, in memory of its
 * own. */
static void *thread_main(void *context)
{
    uint64_t *result = context, *keys = malloc(HASH_SLOTS * sizeof(keys[0]));
    uint32_t *numbers = malloc(20000 * sizeof(numbers[0])), seed = (uint32_t)*result;

    if (!keys || !numbers)
        work_fail("threads: memory");
    *result = 0;
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 20000; i++)
            numbers[i] = seed = seed * 1664525u + 1013904223u;
        qsort(numbers, 20000, sizeof(numbers[0]), compare);
        *result = *result * 5 + hash_round(keys) +
                  crc_of((const uint8_t *)numbers, 20000 * sizeof(numbers[0]), ~0u);
    }
    free(keys);
    free(numbers);
    return NULL;
}

static uint64_t threads(unsigned nr, unsigned scale)
{
    uint64_t sum = 0;

    crc_prepare();
    for (unsigned round = 0; round < 3 * scale; round++) {
        pthread_t thread[2];
        uint64_t result[2][8]; /* a cache line each */

        for (unsigned i = 0; i < nr; i++) {
            result[i][0] = 1 + i;
            if (pthread_create(&thread[i], NULL, thread_main, result[i]))
                work_fail("threads: create");
        }
        for (unsigned i = 0; i < nr; i++) {
            pthread_join(thread[i], NULL);
            sum = sum * 7 + result[i][0];
        }
    }
    return sum;
}

static uint64_t run_threads1(unsigned scale)
{
    return threads(1, scale);
}

static uint64_t run_threads2(unsigned scale)
{
    return threads(2, scale);
}

const struct work work_integer[] = {
    {"list", run_list},         {"matrix", run_matrix}, {"state", run_state},
    {"crc", run_crc},           {"qsort", run_qsort},   {"hash", run_hash},
    {"bytecode", run_bytecode}, {"btree", run_btree},   {"fib", run_fib},
    {"divide", run_divide},     {"memcpy", run_memcpy}, {"threads1", run_threads1},
    {"threads2", run_threads2}, {NULL, NULL},
};
