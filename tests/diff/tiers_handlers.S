/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of the guest of tiers.h. Each vector's stub pushes 0 where there is no error code, and the
 * vector, and jumps to tiers_handler_common. */
#define __ASSEMBLER__ 1
#define STATE 0x30000000
#define CODE 0x10000000
#define PRISTINE (0x2f400000 + 0x20000)
        .section .rodata
        .globl tiers_handlers, tiers_handlers_end, tiers_handler_common

        .macro mix source
        rol     $7, %rax
        xor     \source, %rax
        imul    $0x01000193, %rax, %rax
        .endm

tiers_handlers:
tiers_handler_common:
        push    %rax
        push    %rcx
        push    %rdx
        mov     STATE + 0x10, %rax
        mix     24(%rsp)
        mix     32(%rsp)
        mix     40(%rsp)
        mix     48(%rsp)
        mix     56(%rsp)
        mix     64(%rsp)
        mix     72(%rsp)
        mov     %cr2, %rcx
        mix     %rcx
        mov     %rax, STATE + 0x10
        mov     STATE + 0x28, %eax
        incl    STATE + 0x28
        and     $31, %eax
        shl     $6, %eax
        mov     %rcx, STATE + 0x430(%rax)
        .irp    field, 24, 32, 40, 48, 56, 64
        mov     \field(%rsp), %rcx
        mov     %rcx, STATE + 0x400 + \field - 24(%rax)
        .endr
        mov     24(%rsp), %eax
        cmp     $0x60, %eax
        je      9f
        cmp     $0x40, %eax
        je      flush
        cmp     $0x41, %eax
        jne     skip
1:      hlt
        jmp     1b

skip:   mov     STATE, %eax
        cmp     STATE + 0x20, %eax
        jae     2f
        testb   $3, STATE + 0x10
        jnz     2f
        mov     STATE + 0x184(,%rax,8), %ecx
        and     $0x1ff, %ecx
        jz      2f
        push    %rsi
        push    %rdi
        mov     STATE + 0x180(,%rax,8), %edi
        and     $0x3ff8, %edi
        lea     CODE(%rdi), %esi
        xchg    %esi, %edi
        add     $PRISTINE, %esi
        cld
        rep movsq
        pop     %rdi
        pop     %rsi
2:      inc     %eax
        cmp     STATE + 0x20, %eax
        jb      1f
        xor     %eax, %eax
1:      mov     STATE + 0x100(,%rax,8), %rax
        mov     %rax, 40(%rsp)
        andl    $~0x44100, 56(%rsp)
        /* RF: IRET need not keep it where no breakpoint is armed */
9:      andl    $~0x10000, 56(%rsp)
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp
        iretq

flush:  mov     STATE + 0x18, %eax
        test    $1, %al
        jz      1f
        mov     %cr3, %rcx
        mov     %rcx, %cr3
1:      test    $2, %al
        jz      1f
        mov     %cr4, %rcx
        mov     %rcx, %rdx
        xor     $0x80, %edx
        mov     %rdx, %cr4
        mov     %rcx, %cr4
1:      invlpg  0x20000000
        invlpg  0x20001000
        invlpg  0x10003000
        movabs  $0xffff800010003000, %rcx
        invlpg  (%rcx)
        jmp     9b
tiers_handlers_end:
        .section .note.GNU-stack, "", @progbits
