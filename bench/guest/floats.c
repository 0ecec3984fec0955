/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Floating point kernels. Compiled once for each instruction set; the compiler is told by flags:
 *   SUFFIX=sse2   -msse2
 *   SUFFIX=avx2   -mavx2 -mfma     NAME_END="-avx2"
 *   SUFFIX=x87    -mfpmath=387     NAME_END="-x87", REAL="long double"
 */
#include "work.h"

#ifndef REAL
#define REAL double
#endif
#define PASTE2(a, b) a##b
#define PASTE(a, b)  PASTE2(a, b)
#define TABLE        PASTE(work_, SUFFIX)
#ifndef NAME_END
#define NAME_END ""
#endif

typedef REAL real;

static real root(real value)
{
    return sizeof(real) > 8 ? (real)__builtin_sqrtl(value) : (real)__builtin_sqrt((double)value);
}

static uint64_t bits_of(real value)
{
    union {
        double number;
        uint64_t bits;
    } u = {.number = (double)value};

    return u.bits;
}

/* About ten milliseconds; x87 gets less, being slower. */
#define LESS              (sizeof(real) > 8 ? 8 : 1)
#define NBODY_STEPS       (240000 / LESS)
#define MATMUL_ROUNDS     (400 / LESS)
#define MANDELBROT_ROUNDS (40 / LESS)
#define FFT_ROUNDS        (2000 / LESS)

struct body {
    real x, y, z, vx, vy, vz, mass;
};

static void bodies_step(struct body *body, unsigned nr, real dt)
{
    for (unsigned i = 0; i < nr; i++)
        for (unsigned j = i + 1; j < nr; j++) {
            real dx = body[i].x - body[j].x, dy = body[i].y - body[j].y, dz = body[i].z - body[j].z;
            real square = dx * dx + dy * dy + dz * dz + (real)0.01;
            real factor = dt / (square * root(square));

            body[i].vx -= dx * body[j].mass * factor;
            body[i].vy -= dy * body[j].mass * factor;
            body[i].vz -= dz * body[j].mass * factor;
            body[j].vx += dx * body[i].mass * factor;
            body[j].vy += dy * body[i].mass * factor;
            body[j].vz += dz * body[i].mass * factor;
        }
    for (unsigned i = 0; i < nr; i++) {
        body[i].x += dt * body[i].vx;
        body[i].y += dt * body[i].vy;
        body[i].z += dt * body[i].vz;
    }
}

static uint64_t run_nbody(unsigned scale)
{
    struct body body[5];
    uint64_t sum = 0;

    for (unsigned i = 0; i < 5; i++)
        body[i] = (struct body){i * (real)1.5 + 1, i * (real)0.75, 1 / (real)(i + 1), (real)0.1 * i,
                                (real)0.2,         -(real)0.1 * i, (real)0.5 + i};
    for (unsigned step = 0; step < NBODY_STEPS * scale; step++)
        bodies_step(body, 5, (real)0.001);
    for (unsigned i = 0; i < 5; i++)
        sum = sum * 3 + bits_of(body[i].x + body[i].y);
    return sum;
}

static uint64_t run_matmul(unsigned scale)
{
    enum { N = 64 };
    static real a[N][N], b[N][N], c[N][N];
    uint64_t sum = 0;

    for (unsigned round = 0; round < MATMUL_ROUNDS * scale; round++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                a[i][j] = i + j + (real)round / 8, b[i][j] = (i - j) / (real)3, c[i][j] = 0;
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++)
                for (int j = 0; j < N; j++)
                    c[i][j] += a[i][k] * b[k][j];
        sum = sum * 3 + bits_of(c[7][9]) + bits_of(c[40][3]);
    }
    return sum;
}

/* Several points at once, as one writes it for a vectorising compiler. */
static uint64_t run_mandelbrot(unsigned scale)
{
    enum { LANES = 8, SIZE = 64 };
    uint64_t sum = 0;

    for (unsigned round = 0; round < MANDELBROT_ROUNDS * scale; round++)
        for (unsigned row = 0; row < SIZE; row++)
            for (unsigned column = 0; column < SIZE; column += LANES) {
                real x[LANES] = {0}, y[LANES] = {0}, inside[LANES] = {0};

                for (unsigned n = 0; n < 100; n++)
                    for (unsigned i = 0; i < LANES; i++) {
                        real cx = (real)(column + i) * (3 / (real)SIZE) - 2;
                        real cy = (real)row * (2 / (real)SIZE) - 1 + (real)round / 1000;
                        real xx = x[i] * x[i], yy = y[i] * y[i], in = xx + yy < 4 ? 1 : 0;
                        real next = in > 0 ? xx - yy + cx : x[i];

                        y[i] = in > 0 ? 2 * x[i] * y[i] + cy : y[i];
                        x[i] = next;
                        inside[i] += in;
                    }
                for (unsigned i = 0; i < LANES; i++)
                    sum = sum * 3 + (uint64_t)inside[i];
            }
    return sum;
}

#define FFT_POINTS 1024u

static void fft(real *re, real *im, const real *cosine, const real *sine)
{
    for (unsigned i = 1, j = 0; i < FFT_POINTS; i++) {
        unsigned bit = FFT_POINTS >> 1;

        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            real t = re[i];

            re[i] = re[j];
            re[j] = t;
            t = im[i];
            im[i] = im[j];
            im[j] = t;
        }
    }
    for (unsigned half = 1; half < FFT_POINTS; half *= 2)
        for (unsigned start = 0; start < FFT_POINTS; start += 2 * half)
            for (unsigned k = 0; k < half; k++) {
                unsigned a = start + k, b = a + half, w = k * (FFT_POINTS / 2 / half);
                real tr = re[b] * cosine[w] - im[b] * sine[w];
                real ti = re[b] * sine[w] + im[b] * cosine[w];

                re[b] = re[a] - tr;
                im[b] = im[a] - ti;
                re[a] += tr;
                im[a] += ti;
            }
}

static uint64_t run_fft(unsigned scale)
{
    static real re[FFT_POINTS], im[FFT_POINTS], cosine[FFT_POINTS / 2], sine[FFT_POINTS / 2];
    /* cos and sin of 2 pi / 1024, turned on by recurrence: no library whose code depends on CPUID
     */
    real c = (real)0.99998117528260142657, s = (real)0.0061358846491544753597, sum = 0;

    cosine[0] = 1;
    for (unsigned i = 1; i < FFT_POINTS / 2; i++) {
        cosine[i] = cosine[i - 1] * c - sine[i - 1] * s;
        sine[i] = sine[i - 1] * c + cosine[i - 1] * s;
    }
    for (unsigned round = 0; round < FFT_ROUNDS * scale; round++) {
        for (unsigned i = 0; i < FFT_POINTS; i++) {
            re[i] = (real)((i * i * 37 + round) % 251) / 256;
            im[i] = 0;
        }
        fft(re, im, cosine, sine);
        sum += re[5] - im[77];
    }
    return bits_of(sum);
}

const struct work TABLE[] = {
    {"nbody" NAME_END, run_nbody},
    {"matmul" NAME_END, run_matmul},
    {"mandelbrot" NAME_END, run_mandelbrot},
    {"fft" NAME_END, run_fft},
    {NULL, NULL},
};
