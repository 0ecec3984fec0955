/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Floating point and vectors as programs use them. Prints a hash after each part: the same program
 * has to print the same in a guest and on the host. Built for several instruction sets.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash = UINT64_C(1469598103934665603);

static void add(const void *data, size_t size)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
}

static void report(const char *part)
{
    printf("%s %016llx\n", part, (unsigned long long)hash);
}

static void functions(void)
{
    for (int i = 1; i < 2000; i++) {
        long double x = i * 0.37L;
        long double a = sinl(x) + expl(-x / 1000) + powl(x, 1.3L) + sqrtl(x) + atan2l(x, 3) +
                        logl(x);
        double y = i * 1.1;
        double b = sin(y) * cos(y) + exp(-y / 500) + pow(y, .7) + tan(y) + cbrt(y) + fma(y, y, 1);
        float c = sinf((float)i) + sqrtf((float)i) + powf((float)i, .3f);

        add(&a, 10);
        add(&b, sizeof(b));
        add(&c, sizeof(c));
    }
    report("functions");
}

#define N 48

static void matrices(void)
{
    static float a[N][N], b[N][N], c[N][N];

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (float)i * .5f - (float)j;
            b[i][j] = (float)j * .25f + (float)i;
        }
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            for (int j = 0; j < N; j++)
                c[i][j] += a[i][k] * b[k][j];
    add(c, sizeof(c));
    report("matrices");
}

static void bytes(void)
{
    size_t size = 1 << 18;
    char *from = malloc(size), *to = calloc(1, size);

    for (size_t i = 0; i < size; i++)
        from[i] = (char)(i * 7 + (i >> 8));
    for (size_t k = 0; k < 50; k++) {
        memcpy(to + k, from, size - k);
        memmove(from + 1, to, size - 100);
    }
    add(to, size);
    report("bytes");
}

static void text(void)
{
    char line[400];

    for (int i = 0; i < 500; i++) {
        long double back;

        snprintf(line, sizeof(line), "%.17g %La %Lg", i / 7.0, (long double)i / 3,
                 i * (long double)1e300);
        back = strtold(line, NULL);
        add(line, strlen(line));
        add(&back, 10);
    }
    report("text");
}

int main(void)
{
    functions();
    matrices();
    bytes();
    text();
    puts("arithmetic done");
    return 0;
}
