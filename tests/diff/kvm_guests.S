/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests of test_kvm.c: each starts in real mode at 0000:1000, logs what happens to it at LOG, and
 * ends by writing port 11h. Addresses in them are computed from where they are loaded.
 */
#define LOAD   0x1000
#define IDT    0x3000
#define LOG    0x4000
#define RESUME 0x3ff0
#define ALL    0x3fd0 /* what KVM needs hardware for, too */

        .section .rodata

/* ---- real mode: interrupts and exceptions through the IVT, far transfers, segment loads */
        .code16
guest_real:
        .globl guest_real, guest_real_end
        .hidden guest_real, guest_real_end
        .set REAL, guest_real - LOAD
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x8000, %sp
        movw    $LOG, %di
        cld
        xorw    %bx, %bx
1:      movw    $(real_handler - REAL), (%bx)
        movw    %ax, 2(%bx)
        addw    $4, %bx
        cmpw    $0x100, %bx
        jb      1b
        .macro resume_at label
        movw    $(\label - REAL), RESUME
        .endm
        resume_at 2f
        int     $0x21
2:      resume_at 3f
        movb    $0, %cl
        divb    %cl
3:      resume_at 4f
        movb    $0x7f, %al
        addb    $1, %al
        into
4:      resume_at 6f
        ud2
6:      resume_at 7f
        int3
7:      resume_at 8f
        movw    0xffff, %ax
8:      lcall   $0x0100, $(real_far - REAL - 0x1000)
        movw    %ax, %es:(%di)
        addw    $2, %di
        ljmp    $0x0080, $(9f - REAL - 0x0800)
9:      movw    %cs, %ax
        stosw
        movw    $0x0010, %ax
        movw    %ax, %fs
        movl    %fs:0x3ff0 - 0x100, %eax
        stosl
        movw    $0x1234, 0x3fe4
        movw    $0x0200, 0x3fe6
        lgsw    0x3fe4, %si
        movw    %gs, %ax
        stosw
        movw    %si, %ax
        stosw
        smsw    %ax
        stosw
        pushf
        pushw   $0x7eff
        popf
        pushf
        popw    %ax
        popf
        andw    $0x4fff, %ax
        stosw
        pushw   $0
        popf
        out     %al, $0x11
        hlt
real_handler:
        movw    %ax, %bp
        popw    %ax
        stosw
        popw    %ax
        stosw
        popw    %ax
        stosw
        pushw   %ax
        pushw   $0
        pushw   RESUME
        movw    %bp, %ax
        iret
real_far:
        movw    %cs, %ax
        lret
guest_real_end:

/* ---- protected mode: segment loads, far transfers, exceptions with error codes */
        .balign 16
guest_protected:
        .globl guest_protected, guest_protected_end
        .hidden guest_protected, guest_protected_end
        .set PROT, guest_protected - LOAD
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movl    $0x8000, %esp
        lgdtl   (gdt_pointer - PROT)
        lidtl   (idt_pointer - PROT)
        movl    $0x11, %eax
        movl    %eax, %cr0
        ljmpl   $0x08, $(prot_32 - PROT)
        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* 08 code */
        .quad   0x00cf93000000ffff      /* 10 data */
        .quad   0x00cffb000000ffff      /* 18 code, ring 3 */
        .quad   0x00cff3000000ffff      /* 20 data, ring 3 */
        .quad   0x0000890050000067      /* 28 TSS at 5000h */
        .quad   0x0000890051000067      /* 30 TSS at 5100h */
        .quad   0x00cf13000000ffff      /* 38 data, not present */
        .quad   0x00cf9f000000ffff      /* 40 code, conforming */
        .quad   0x0000930060000fff      /* 48 data at 6000h, 4 KiB, 16-bit */
        .quad   0x00cf91000000ffff      /* 50 data, read-only */
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt - PROT
idt_pointer:
        .word   0x30 * 8 - 1
        .long   IDT
        .code32
prot_32:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $LOG, %edi
        movl    $IDT, %ebx              /* 32-bit interrupt gates, DPL 3, to stubs of 8 bytes */
        movl    $(stubs - PROT), %eax
1:      movl    %eax, (%ebx)
        movw    $0x08, 2(%ebx)
        movl    $0xee00, 4(%ebx)
        addl    $8, %ebx
        addl    $8, %eax
        cmpl    $(IDT + 0x30 * 8), %ebx
        jb      1b
        movw    $0x28, %ax
        ltr     %ax
        .macro expect label
        movl    $(\label - PROT), RESUME
        .endm
        .macro value reg
        movl    \reg, (%edi)
        addl    $4, %edi
        .endm
        expect  3f
        movl    $0x58, %eax             /* beyond the GDT */
        movl    %eax, %ds
3:      expect  4f
        movl    $0x38, %eax             /* not present */
        movl    %eax, %es
4:      expect  5f
        movl    $0x38, %eax
        movl    %eax, %ss
5:      expect  6f
        movl    $0x08, %eax             /* code as a stack */
        movl    %eax, %ss
6:      expect  7f
        xorl    %eax, %eax              /* through a null selector */
        movl    %eax, %fs
        movl    %fs:0, %eax
7:      expect  8f
        movl    $0x48, %eax             /* beyond its limit */
        movl    %eax, %gs
        movl    %gs:0xffd, %eax
8:      expect  9f
        movl    $0x50, %eax             /* read-only */
        movl    %eax, %gs
        movl    %eax, %gs:0
9:      expect  11f
        ljmp    $0x10, $0               /* to data */
11:     expect  12f
        ljmp    $0x18, $0               /* to ring 3 */
12:     lcall   $0x40, $(13f - PROT)
13:     popl    %eax
        popl    %eax
        movl    %cs, %eax
        value   %eax
        ljmp    $0x08, $(14f - PROT)
14:     cmpl    $0, ALL
        je      18f
        movl    $0x7000, 0x5004         /* ring 0 stack of ring 3 */
        movl    $0x10, 0x5008
        expect  2f
        int     $0x21
2:      expect  3f
        int     $0x40                   /* beyond the IDT */
3:      movl    $0x40, %eax
        lar     %eax, %ebx
        value   %ebx
        lsl     %eax, %ecx
        value   %ecx
        movl    $0x3, %eax
        movl    $0x10, %ebx
        arpl    %ax, %bx
        value   %ebx
        str     %eax
        value   %eax
        expect  16f
        pushl   $0x23                   /* to ring 3, and back by a gate */
        pushl   $0x9000
        pushl   $0x2
        pushl   $0x1b
        pushl   $(15f - PROT)
        iret
15:     movl    %cs, %eax
        int     $0x22
16:     expect  18f
        pushl   $0x23                   /* privileged in ring 3 */
        pushl   $0x9000
        pushl   $0x2
        pushl   $0x1b
        pushl   $(17f - PROT)
        iret
17:     hlt
18:     xorl    %eax, %eax              /* no flags that instructions leave undefined */
        value   %eax
        out     %al, $0x11
        hlt
/* Logs the vector, the stack pointer and five words of the frame; goes on at RESUME in ring 0. */
prot_handler:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        cld
        popl    %eax
        stosl
        movl    %esp, %eax
        stosl
        movl    %esp, %esi
        movl    $5, %ecx
        rep movsl
        movl    $0x8000, %esp
        jmp     *RESUME
        .balign 8
stubs:
        .set    VECTOR, 0
        .rept   0x30
        .byte   0x6a, VECTOR            /* push */
        .byte   0xe9                    /* jmp */
        .long   prot_handler - . - 4
        .byte   0x90
        .set    VECTOR, VECTOR + 1
        .endr
guest_protected_end:

        .section .note.GNU-stack, "", @progbits
