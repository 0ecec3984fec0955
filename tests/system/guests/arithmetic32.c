/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As arithmetic.c for 32-bit code, without a C library: x87 with its 32-bit environment, MMX and
 * SSE under a compatibility-mode kernel.
 */
typedef unsigned char u8;
typedef unsigned int u32;

static u32 hash = 2166136261u;

static void add(const void *data, u32 size)
{
    const u8 *bytes = data;

    for (u32 i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
}

static void out(const char *text, u32 length)
{
    int result;

    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(4), "b"(1), "c"(text), "d"(length)
                     : "memory");
}

static void report(const char *part, u32 length)
{
    char line[10];

    out(part, length);
    for (int i = 0; i < 8; i++)
        line[i] = "0123456789abcdef"[hash >> (28 - 4 * i) & 15];
    line[8] = '\n';
    out(line, 9);
}

static void x87(void)
{
    static u8 state[108], environment[28];

    for (int i = 1; i < 500; i++) {
        long double x = (long double)i * 0.37L, s, c, l;
        double d = (double)x / 3;
        short w;

        __asm__("fsincos" : "=t"(c), "=u"(s) : "0"(x));
        __asm__("fyl2x" : "=t"(l) : "0"(x), "u"(1.0L) : "st(1)");
        __asm__("fistps %0" : "=m"(w) : "t"(x) : "st");
        add(&s, 10);
        add(&c, 10);
        add(&l, 10);
        add(&d, 8);
        add(&w, 2);
    }
    __asm__ volatile("fninit; fld1; fldpi; fldz; fdivrp %%st, %%st(1); fnstenv %0; fldenv %0; "
                     "fnsave %1; frstor %1; fninit"
                     : "+m"(environment), "+m"(state));
    add(environment, 12); /* FCW, FSW, FTW */
    add(state + 28, 80);
    report("x87 ", 4);
}

static void vectors(void)
{
    static float a[64] __attribute__((aligned(16)));
    static u8 image[512] __attribute__((aligned(16)));

    for (int i = 0; i < 64; i++)
        a[i] = (float)i / 7;
    for (int i = 0; i < 60; i += 4)
        __asm__ volatile(
            "movups %1, %%xmm0; mulps %0, %%xmm0; rsqrtps %%xmm0, %%xmm1; addps %%xmm1, %%xmm0;"
            "movaps %%xmm0, %0; movq %1, %%mm3; paddd %0, %%mm3; psrlw $3, %%mm3; movq %%mm3, %1; "
            "emms"
            : "+m"(a[i]), "+m"(a[i + 1])
            :
            : "xmm0", "xmm1", "memory");
    __asm__ volatile("fninit; fxsave %0; fxrstor %0" : "+m"(image));
    add(a, sizeof(a));
    add(image + 160, 128);
    report("vectors ", 8);
}

__attribute__((force_align_arg_pointer, noreturn)) void _start(void);

void _start(void)
{
    x87();
    vectors();
    out("arithmetic done\n", 16);
    for (;;)
        __asm__ volatile("int $0x80" : : "a"(1), "b"(0));
}
