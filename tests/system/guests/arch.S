/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A multiboot guest that provokes exceptions and mode switches in a fixed order and writes what it
 * sees to port 0xe9, one line each, then leaves by the debug-exit port. The same output must come
 * from every processor: tests/system/test_arch.py compares.
 *
 * A line of an exception: test number, "E" vector error EIP CS EFLAGS (RF and the arithmetic flags
 * masked) and DR6 or CR2 where they matter; a test that ends without one prints "ok".
 */
    .set MAGIC, 0x1badb002
    .set FLAGS, 0

    .set CODE0, 0x08
    .set DATA0, 0x10
    .set CODE3, 0x1b
    .set DATA3, 0x23
    .set CODE64, 0x28
    .set TSS1, 0x30
    .set TSS2, 0x40
    .set ABSENT, 0x48
    .set READONLY, 0x50
    .set GATE, 0x58
    .set CODE3_64, 0x6b
    .set TASKGATE, 0x70
    .set CONFORMING, 0x78
    .set TSS64, 0x80
    .set V86_AT, 0x7000

    .section .text
    .balign 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)
    .globl _start
    .code32

/* CHECK n: what follows up to DONE is run; an exception in it continues behind DONE. */
    .macro CHECK n
    movl $\n, number
    movl $9f, resume
    .endm
/* The next check, up to label 8, is one that emulators are known to leave out. */
    .macro STRICT
    cmpb $0, loose
    jne 8f
    .endm
    .macro DONE
    call print_ok
9:
    .endm
    .macro SHOW value
    push \value
    call show
    .endm

_start:
    cld
    mov $0xff, %al                     /* no timer interrupt may come between, however slow the machine */
    out %al, $0x21
    out %al, $0xa1
    mov $stack0, %esp
    mov 16(%ebx), %esi                 /* command line: "loose" leaves tests out */
1:  cmpl $0x736f6f6c, (%esi)
    sete loose
    je 1f
    inc %esi
    cmpb $0, -1(%esi)
    jne 1b
1:  mov $v86_code, %esi
    mov $V86_AT, %edi
    mov $v86_end - v86_code, %ecx
    rep movsb
    lgdt gdtr
    ljmp $CODE0, $1f
1:  mov $DATA0, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov $tss1, %eax
    mov $gdt + TSS1, %edi
    call set_base
    mov $tss2, %eax
    mov $gdt + TSS2, %edi
    call set_base
    mov $gate_target, %eax
    mov %ax, gdt + GATE
    shr $16, %eax
    mov %ax, gdt + GATE + 6
    mov $TSS1, %eax
    ltr %ax
    mov $vectors, %ebx
    xor %ecx, %ecx
2:  call set_gate
    inc %ecx
    cmp $0x34, %ecx
    jne 2b
    orb $0x60, idt + 0x31 * 8 + 5      /* vector 0x31: DPL 3 */
    orb $0x60, idt + 0x03 * 8 + 5
    movw $TSS2, idt + 0x33 * 8 + 2
    movb $0x85, idt + 0x33 * 8 + 5     /* vector 0x33: task gate */
    lidt idtr

    CHECK 0x01
    ud2
    DONE
    CHECK 0x02
    int3
    DONE
    CHECK 0x03
    int $0x30
    DONE
    CHECK 0x04
    mov $0x7f, %al
    add $1, %al
    into
    DONE
    CHECK 0x05
    xor %ecx, %ecx
    div %ecx
    DONE
    CHECK 0x06
    mov $5, %eax
    bound %eax, bounds
    DONE
    CHECK 0x07
    mov $0xfff8, %eax
    mov %eax, %ds
    DONE
    CHECK 0x08
    mov $ABSENT, %eax
    mov %eax, %es
    DONE
    CHECK 0x09
    mov $ABSENT, %eax
    mov %eax, %ss
    DONE
    CHECK 0x0a
    xor %eax, %eax
    mov %eax, %ss
    DONE
    STRICT
    CHECK 0x0b
    mov $READONLY, %eax
    mov %eax, %ds
    movl $1, number
    DONE
8:  CHECK 0x0c
    ljmp $DATA0, $0
    DONE
    CHECK 0x0d
    ljmp $ABSENT, $0
    DONE
    CHECK 0x0e
    ljmp $CODE3, $0
    DONE
    CHECK 0x0f
    mov $DATA0, %eax
    lldt %ax
    DONE
    CHECK 0x10
    mov $TSS1, %eax                    /* busy */
    ltr %ax
    DONE
    STRICT
    CHECK 0x11
    mov $0x80000010, %eax              /* PG without PE */
    mov %eax, %cr0
    DONE
8:  STRICT
    CHECK 0x12
    mov $0xbadbad, %ecx
    rdmsr
    DONE
8:  CHECK 0x13
    mov %cr5, %eax
    DONE
    CHECK 0x14
    int $0x40                          /* beyond the IDT */
    DONE
    CHECK 0x15
    pushl $0x102                       /* TF */
    popf
    nop
1:  nop
    DONE
    CHECK 0x16
    movl $1f, %eax
    mov %eax, %dr0
    mov $0x401, %eax
    mov %eax, %dr7
    nop
1:  nop
    DONE
    xor %eax, %eax
    mov %eax, %dr7
    CHECK 0x17
    movl $scratch, %eax
    mov %eax, %dr1
    mov $0x00d00404, %eax              /* L1, write, 4 bytes */
    mov %eax, %dr7
    mov scratch, %eax
    movl $7, scratch
    nop
    DONE
    xor %eax, %eax
    mov %eax, %dr7
    STRICT
    CHECK 0x18
    mov $0x2400, %eax                  /* GD */
    mov %eax, %dr7
    mov %dr0, %eax
    DONE
8:  STRICT
    CHECK 0x19
    .byte 0xf1
    DONE
8:

    /* probes: what they give, and ZF */
    movl $0x1a, number
    mov $CODE0, %ebx
    lar %ebx, %eax
    and $0x00f0ff00, %eax
    SHOW %eax
    lsl %ebx, %eax
    SHOW %eax
    mov $TSS1, %ebx
    lar %ebx, %eax
    and $0x00f0ff00, %eax
    SHOW %eax
    lsl %ebx, %eax
    SHOW %eax
    mov $GATE, %ebx
    lsl %ebx, %eax
    call show_zf
    mov $0xfff8, %ebx
    lar %ebx, %eax
    call show_zf
    mov $READONLY, %eax
    verw %ax
    call show_zf
    verr %ax
    call show_zf
    mov $0x10, %eax
    mov $3, %ecx
    arpl %cx, %ax
    call show_zf
    SHOW %eax
    str %eax
    SHOW %eax
    smsw %eax
    and $0xffff000f, %eax
    SHOW %eax
    call newline

    /* ring 3 and back */
    CHECK 0x20
    mov $1f, %eax
    call to_user
1:  hlt
    DONE
    CHECK 0x21
    mov $1f, %eax
    call to_user
1:  int $0x31
    DONE
    CHECK 0x22
    mov $1f, %eax
    call to_user
1:  int $0x30
    DONE
    CHECK 0x23
    mov $1f, %eax
    call to_user
1:  in $0x80, %al                      /* no bitmap */
    DONE
    CHECK 0x24
    mov $1f, %eax
    call to_user
1:  mov $DATA0, %eax
    mov %eax, %ds
    DONE
    CHECK 0x25
    mov $1f, %eax
    call to_user
1:  mov %cr0, %eax
    DONE
    CHECK 0x26                          /* call gate, two parameters */
    mov $1f, %eax
    call to_user
1:  pushl $0x1111
    pushl $0x2222
    lcall $GATE | 3, $0
    mov %cs, %eax
    add %esp, %eax
    sub $ustack, %eax                  /* 0x1b when the parameters are gone */
    int $0x32                          /* DPL 0: #GP */
    DONE
    CHECK 0x27
    mov $1f, %eax
    call to_user
1:  ljmp $CONFORMING, $2f
2:  mov %cs, %eax
    int $0x31
    DONE
    CHECK 0x28
    mov $1f, %eax
    call to_user
1:  cli
    DONE

    /* tasks */
    movl $0x30, number
    ljmp $TSS2, $0
    str %eax
    SHOW %eax
    movl $0x31, number
    lcall $TASKGATE, $0
    str %eax
    SHOW %eax
    movl $0x32, number
    int $0x33
    str %eax
    SHOW %eax
    movb gdt + TSS2 + 5, %al
    and $0xff, %eax
    SHOW %eax
    movl task2_link, %eax
    SHOW %eax
    call newline
    clts

    /* virtual-8086 mode */
    CHECK 0x38
    mov $0x20002, %ecx                 /* VM, IOPL 0 */
    mov $v86_int, %eax
    jmp to_v86
    DONE
    CHECK 0x39
    mov $0x23002, %ecx                 /* IOPL 3 */
    mov $v86_int, %eax
    jmp to_v86
    DONE
    CHECK 0x3a
    mov $0x20002, %ecx
    mov $v86_cli, %eax
    jmp to_v86
    DONE
    CHECK 0x3b
    mov $0x23002, %ecx
    mov $v86_privileged, %eax
    jmp to_v86
    DONE

    /* 32-bit paging: 4 MiB pages, and one table for 8 MiB */
    movl $0x00000087, pd
    movl $pt + 7, pd + 8
    movl $0x00400083, pt + 0           /* not present below: 0x800000 present, kernel only */
    andl $~0x80, pt
    movl $0x00401001, pt + 4           /* read-only */
    movl $0, pt + 8
    mov $pd, %eax
    mov %eax, %cr3
    mov $0x10, %eax                    /* PSE */
    mov %eax, %cr4
    mov %cr0, %eax
    or $0x80010000, %eax               /* PG, WP */
    mov %eax, %cr0
    CHECK 0x40
    movl $1, 0x800000
    DONE
    CHECK 0x41
    movl $1, 0x801004
    DONE
    CHECK 0x42
    mov 0x802008, %eax
    DONE
    CHECK 0x43
    mov 0xc0000000, %eax
    DONE
    CHECK 0x44
    mov $1f, %eax
    call to_user
1:  mov 0x800000, %eax
    DONE
    CHECK 0x45
    mov $1f, %eax
    call to_user
1:  movl $1, 0x802ffe                  /* crosses two absent pages */
    DONE
    CHECK 0x46
    ljmp $CODE0, $0x802000
    DONE
    movl $0x47, number
    mov pt, %eax
    and $0x60, %eax                    /* accessed, dirty */
    SHOW %eax
    mov pt + 4, %eax
    and $0x60, %eax
    SHOW %eax
    call newline
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0

    /* long mode: identity by 2 MiB pages; page 0x800000 by a table */
    movl $pdpt + 7, pml4
    movl $pdl + 7, pdpt
    xor %ecx, %ecx
    mov $0x87, %eax
3:  mov %eax, pdl(, %ecx, 8)
    movl $0, pdl + 4(, %ecx, 8)
    add $0x200000, %eax
    inc %ecx
    cmp $4, %ecx
    jne 3b
    movl $ptl + 7, pdl + 4 * 8
    movl $0x00400003, ptl              /* kernel only */
    movl $0x00401005, ptl + 8          /* user, read-only */
    movl $0x00402007, ptl + 16         /* no execute */
    movl $0x80000000, ptl + 20
    movl $0x00403007, ptl + 24
    movl $0x00080000, ptl + 28         /* bit 51 reserved */
    mov $0x20, %eax                    /* PAE */
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    mov $0x901, %eax                   /* NXE, LME, SCE */
    xor %edx, %edx
    wrmsr
    mov %cr0, %eax
    or $0x80010000, %eax
    mov %eax, %cr0
    ljmp $CODE64, $long_mode

set_base:
    mov %ax, 2(%edi)
    shr $16, %eax
    mov %al, 4(%edi)
    mov %ah, 7(%edi)
    ret

/* vector %ecx: stub at %ebx + 16 * %ecx */
set_gate:
    mov %ecx, %eax
    shl $4, %eax
    add %ebx, %eax
    mov %ax, idt(, %ecx, 8)
    movw $CODE0, idt + 2(, %ecx, 8)
    movw $0x8e00, idt + 4(, %ecx, 8)
    shr $16, %eax
    mov %ax, idt + 6(, %ecx, 8)
    ret

to_user:                               /* to %eax in ring 3 */
    pushl $DATA3
    pushl $ustack
    pushl $2
    pushl $CODE3
    push %eax
    mov $DATA3, %eax
    mov %eax, %ds
    mov %eax, %es
    iret

to_v86:                                /* to %eax, EFLAGS %ecx */
    pushl $0x4444                      /* GS FS DS ES */
    pushl $0x3333
    pushl $0x2222
    pushl $0x1111
    pushl $0x1000                      /* SS */
    pushl $0x0800
    push %ecx
    pushl $V86_AT >> 4
    sub $v86_code, %eax
    push %eax
    iret

gate_target:
    mov %cs, %eax
    SHOW %eax
    SHOW 8(%esp)
    SHOW 12(%esp)
    lret $8

task2:
    str %eax
    SHOW %eax
    pushf
    pop %eax
    and $0x4000, %eax                  /* NT */
    SHOW %eax
    test %eax, %eax
    jnz 1f
    ljmp $TSS1, $0
    jmp task2
1:  movl tss2, %eax
    movl %eax, task2_link
    iret
    jmp task2

    .macro STUB n
    .balign 16
    .if \n == 8 || (\n >= 10 && \n <= 14) || \n == 17
    .else
    pushl $0
    .endif
    pushl $\n
    jmp exception
    .endm
    .balign 16
vectors:
    .set i, 0
    .rept 0x34
    STUB i
    .set i, i + 1
    .endr

exception:                             /* vector error EIP CS EFLAGS [ESP SS ...] */
    mov $DATA0, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %esp, %ebp
    call print_number
    mov $'E', %al
    call put
    SHOW 0(%ebp)
    SHOW 4(%ebp)
    SHOW 8(%ebp)
    SHOW 12(%ebp)
    mov 16(%ebp), %eax
    and $0xfffef72a, %eax
    SHOW %eax
    testl $0x20000, 16(%ebp)
    jnz 1f
    testb $3, 12(%ebp)
    jz 2f
    SHOW 20(%ebp)
    SHOW 24(%ebp)
    jmp 2f
1:  SHOW 28(%ebp)
    SHOW 40(%ebp)
    mov %ds, %eax
    SHOW %eax
2:  cmpl $1, 0(%ebp)
    jne 3f
    mov %dr6, %eax
    and $0xe00f, %eax
    SHOW %eax
    xor %eax, %eax
    mov %eax, %dr6
3:  cmpl $14, 0(%ebp)
    jne 4f
    mov %cr2, %eax
    SHOW %eax
4:  mov $10, %al
    call put
    mov $DATA0, %eax
    mov %eax, %ss
    mov $stack0, %esp
    pushl $2
    popf
    jmp *resume

print_ok:
    mov $stack0, %esp
    mov $DATA0, %eax
    mov %eax, %ds
    mov %eax, %ss
    call print_number
    mov $'o', %al
    call put
    mov $10, %al
    call put
    jmp *resume

show_zf:
    pushf
    pop %edx
    and $0x40, %edx
    push %eax
    push %edx
    call show
    pop %eax
    ret

show:                                  /* its line: the number and the value */
    push %eax
    push %edx
    mov 12(%esp), %edx
    call print_hex
    mov $' ', %al
    call put
    pop %edx
    pop %eax
    ret $4

newline:
    mov $10, %al
    jmp put

print_number:
    mov number, %edx
    call print_hex
    mov $' ', %al
put:
    out %al, $0xe9
    ret

print_hex:                             /* %edx */
    push %ecx
    mov $8, %ecx
1:  rol $4, %edx
    mov %dl, %al
    and $15, %al
    cmp $10, %al
    sbb $0x69, %al
    das
    out %al, $0xe9
    loop 1b
    pop %ecx
    ret

    .code16
    .balign 16
v86_code:
v86_int:
    int $0x31
    .balign 16
v86_cli:
    cli
    .balign 16
v86_privileged:
    mov %cr0, %eax
v86_end:

    .code64
    .macro CHECK64 n
    movl $\n, number
    movl $9f, resume
    .endm
    .macro DONE64
    call print_ok64
9:
    .endm
    .macro SHOW64 value
    mov \value, %rdx
    call show64
    .endm

long_mode:
    mov $stack0, %rsp
    mov $DATA0, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $tss64, %eax
    mov $gdt + TSS64, %edi
    mov %ax, 2(%rdi)
    shr $16, %eax
    mov %al, 4(%rdi)
    mov %ah, 7(%rdi)
    movq $stack0, tss64 + 4
    movq $stack_ist, tss64 + 0x24
    mov $TSS64, %eax
    ltr %ax
    xor %ecx, %ecx
1:  mov %ecx, %eax
    shl $4, %eax
    mov %eax, %edi
    add $vectors64, %eax
    mov %ax, idt(%rdi)
    movw $CODE64, idt + 2(%rdi)
    movw $0x8e00, idt + 4(%rdi)
    shr $16, %eax
    mov %ax, idt + 6(%rdi)
    movq $0, idt + 8(%rdi)
    inc %ecx
    cmp $0x34, %ecx
    jne 1b
    orb $0x60, idt + 0x31 * 16 + 5
    movb $1, idt + 8 * 16 + 4          /* #DF on IST1 */
    movb $1, idt + 6 * 16 + 4          /* #UD too */
    lidt idtr64

    CHECK64 0x50
    ud2
    DONE64
    CHECK64 0x51
    movabs 0x800000000000, %rax
    DONE64
    CHECK64 0x52
    movabs $0x7ffffffffffff000, %rsp
    push %rax
    DONE64
    STRICT
    CHECK64 0x53
    movabs $0xffff700000000000, %rbp
    mov (%rbp), %rax
    DONE64
8:  CHECK64 0x54
    movl $1, 0x801000
    DONE64
    CHECK64 0x55
    mov $0x802000, %eax
    movb $0xc3, (%rax)
    call *%rax
    DONE64
    STRICT
    CHECK64 0x56
    mov 0x803000, %eax
    DONE64
8:  CHECK64 0x57
    mov 0x804000, %eax
    DONE64
    CHECK64 0x58
    mov $1f, %eax
    call user64
1:  mov 0x800000, %eax
    DONE64
    CHECK64 0x59
    mov $1f, %eax
    call user64
1:  hlt
    DONE64
    CHECK64 0x5a
    mov $1f, %eax
    call user64
1:  int $0x31
    DONE64
    STRICT
    CHECK64 0x5b
    mov $1f, %eax
    call user64
1:  int $0x30
    DONE64
8:  CHECK64 0x5c                        /* stack gone: #DF through IST */
    movabs $0x0000700000000000, %rsp
    int $0x31
    DONE64
    CHECK64 0x5d
    movabs $0x0000700000000000, %rsp
    mov 0x804000, %eax
    DONE64
    CHECK64 0x5e
    pushq $0
    movabs $0x800000000000, %rax
    push %rax
    lretq
    DONE64
    CHECK64 0x5f
    pushq $DATA0
    pushq $stack0
    pushq $2
    pushq $CODE0                       /* 32-bit code: compatibility mode */
    pushq $2f
    iretq
    .code32
2:  mov $0x12345678, %eax
    inc %eax
    pushl $CODE64
    pushl $3f
    lret
    .code64
3:  DONE64
    /* SYSCALL */
    mov $0xc0000081, %ecx
    xor %eax, %eax
    mov $CODE64 | (CODE3_64 - 16) << 16, %edx
    wrmsr
    inc %ecx
    mov $syscall_target, %eax
    xor %edx, %edx
    wrmsr
    mov $0xc0000084, %ecx
    mov $0x200, %eax
    wrmsr
    CHECK64 0x60
    mov $1f, %eax
    call user64
1:  syscall
2:  int $0x31
    DONE64
    STRICT
    CHECK64 0x61
    mov $0xc0000082, %ecx
    mov $0x8000, %edx
    wrmsr
    DONE64
8:  STRICT
    CHECK64 0x62
    mov $0xc0000080, %ecx
    mov $0x801, %eax                   /* LME off under paging */
    xor %edx, %edx
    wrmsr
    DONE64
8:  STRICT
    CHECK64 0x63
    mov %cr4, %rax
    and $~0x20, %rax
    mov %rax, %cr4
    DONE64
8:  STRICT
    CHECK64 0x64
    mov $-1, %rax                      /* reserved bits */
    mov %rax, %cr4
    DONE64
8:  STRICT
    CHECK64 0x65
    mov $0x1122334455667788, %rax
    mov %rax, %dr7
    DONE64
8:  CHECK64 0x66
    pushq $0x102
    popfq
    nop
    nop
    DONE64
    CHECK64 0x67
    mov $0x1111, %eax
    xor %edx, %edx
    mov $0xc0000101, %ecx
    wrmsr
    inc %ecx
    mov $0x2222, %eax
    wrmsr
    swapgs
    dec %ecx
    rdmsr
    SHOW64 %rax
    DONE64
    CHECK64 0x68
    ljmp *far_data
    DONE64
    mov $5, %eax
    mov $0xf4, %dx
    out %al, %dx
    hlt

syscall_target:
    SHOW64 %rcx
    SHOW64 %r11
    mov %ss, %eax
    SHOW64 %rax
    mov %cs, %eax
    SHOW64 %rax
    sysretq

user64:
    pushq $DATA3
    pushq $ustack
    pushq $0x202
    pushq $CODE3_64
    push %rax
    iretq

    .macro STUB64 n
    .balign 16
    .if \n == 8 || (\n >= 10 && \n <= 14) || \n == 17
    .else
    pushq $0
    .endif
    pushq $\n
    jmp exception64
    .endm
    .balign 16
vectors64:
    .set i, 0
    .rept 0x34
    STUB64 i
    .set i, i + 1
    .endr

exception64:
    mov %rsp, %rbp
    mov number, %edx
    call hex64
    mov $'E', %al
    out %al, $0xe9
    SHOW64 0(%rbp)
    SHOW64 8(%rbp)
    SHOW64 16(%rbp)
    SHOW64 24(%rbp)
    mov 32(%rbp), %rdx
    and $0xfffef72a, %edx
    call show64
    SHOW64 40(%rbp)
    SHOW64 48(%rbp)
    SHOW64 %rbp
    cmpl $14, 0(%rbp)
    jne 1f
    mov %cr2, %rax
    SHOW64 %rax
1:  cmpl $1, 0(%rbp)
    jne 2f
    mov %dr6, %rdx
    and $0xe00f, %edx
    call show64
2:  mov $10, %al
    out %al, $0xe9
    mov $DATA0, %eax
    mov %eax, %ss
    mov $stack0, %rsp
    mov resume, %eax
    jmp *%rax

print_ok64:
    mov number, %edx
    call hex64
    mov $'o', %al
    out %al, $0xe9
    mov $10, %al
    out %al, $0xe9
    mov $stack0, %rsp
    mov resume, %eax
    jmp *%rax

show64:                                /* %rdx */
    call hex64
    ret
hex64:
    push %rax
    push %rcx
    mov $16, %ecx
1:  rol $4, %rdx
    mov %dl, %al
    and $15, %al
    add $'0', %al
    cmp $'9', %al
    jbe 2f
    add $39, %al
2:  out %al, $0xe9
    loop 1b
    mov $' ', %al
    out %al, $0xe9
    pop %rcx
    pop %rax
    ret

    .section .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff           /* 08 ring 0 code */
    .quad 0x00cf93000000ffff           /* 10 ring 0 data */
    .quad 0x00cffb000000ffff           /* 18 ring 3 code */
    .quad 0x00cff3000000ffff           /* 20 ring 3 data */
    .quad 0x00af9b000000ffff           /* 28 64-bit code */
    .quad 0x0000890000000067, 0        /* 30 TSS1 */
    .quad 0x0000890000000067           /* 40 TSS2 */
    .quad 0x00cf13000000ffff           /* 48 absent */
    .quad 0x00cf91000000ffff           /* 50 read-only */
    .word 0, CODE0, 0xec02, 0          /* 58 call gate, two parameters */
    .quad 0x00cff3000000ffff           /* 60 ring 3 data for SYSRET */
    .quad 0x00affb000000ffff           /* 68 ring 3 64-bit code */
    .quad 0x0000e50000400000           /* 70 task gate to TSS2, DPL 3 */
    .quad 0x00cf9f000000ffff           /* 78 conforming code */
    .quad 0x0000890000000067, 0        /* 80 64-bit TSS */
gdt_end:
gdtr:
    .word gdt_end - gdt - 1
    .long gdt
idtr:
    .word 0x34 * 8 - 1
    .long idt
idtr64:
    .word 0x34 * 16 - 1
    .quad idt
bounds:
    .long 0, 4
far_data:
    .long 0x1000
    .word DATA0
    .balign 16
tss1:
    .long 0, stack0, DATA0, 0, 0, 0, 0
    .fill 18, 4, 0
    .long 0x00680000
    .balign 16
tss2:
    .long 0, stack0, DATA0, 0, 0, 0, 0
    .long 0, task2, 2, 0, 0, 0, 0
    .long stack2, 0, 0, 0
    .long DATA0, CODE0, DATA0, DATA0, DATA0, DATA0
    .long 0, 0x00680000

    .section .bss
    .balign 4096
pd:   .skip 4096
pt:   .skip 4096
pml4: .skip 4096
pdpt: .skip 4096
pdl:  .skip 4096
ptl:  .skip 4096
idt:  .skip 4096
tss64: .skip 128
number: .skip 4
resume: .skip 4
scratch: .skip 4
loose: .skip 4
task2_link: .skip 4
    .balign 16
    .skip 2048
stack0:
    .skip 2048
stack2:
    .skip 2048
stack_ist:
    .skip 2048
ustack:
    .skip 16
