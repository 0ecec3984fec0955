/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A multiboot guest of a few instructions: writes a line to COM1, then does what the word after
 * "mode=" in its command line says: exit (debug-exit port, value 5), reset (keyboard controller),
 * loop, halt, triple (fault), flood (COM1 output without end), nowhere
 * (jump to where no memory is), echo (COM1 input to output until 'q', then exit).
 */
    .set MAGIC, 0x1badb002
    .set FLAGS, 0

    .section .text
    .balign 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)
    .globl _start
    .code32
_start:
    mov $stack, %esp
    mov %ebx, %ebp
    mov $message, %esi
    call print
    mov 16(%ebp), %esi      /* command line */
scan:
    mov (%esi), %eax
    inc %esi
    test %al, %al
    jz do_exit
    cmp $0x65646f6d, %eax   /* "mode" */
    jne scan
    mov 4(%esi), %al        /* first letter after "mode=" */
    cmp $'r', %al
    je do_reset
    cmp $'l', %al
    je do_loop
    cmp $'h', %al
    je do_halt
    cmp $'t', %al
    je do_triple
    cmp $'f', %al
    je do_flood
    cmp $'n', %al
    je do_nowhere
    cmp $'e', %al
    je do_e
do_exit:
    mov $5, %eax
    mov $0xf4, %dx
    out %al, %dx
    hlt
do_e:
    cmpb $'x', 5(%esi)
    je do_exit
echo:
    mov $0x3fd, %dx
    in %dx, %al
    test $1, %al
    jz echo
    mov $0x3f8, %dx
    in %dx, %al
    out %al, %dx
    cmp $'q', %al
    jne echo
    jmp do_exit
do_reset:
    mov $0xfe, %al
    out %al, $0x64
do_loop:
    jmp do_loop
do_halt:
    cli
    hlt
    jmp do_halt
do_flood:
    mov $message, %esi
    call print
    jmp do_flood
do_nowhere:
    mov $0xc0000000, %eax
    jmp *%eax
do_triple:
    lidt no_idt
    ud2

print:
    lodsb
    test %al, %al
    jz 2f
    mov $0x3f8, %dx
    out %al, %dx
    jmp print
2:  ret

message:
    .asciz "hello from the guest\n"
    .balign 4
no_idt:
    .word 0
    .long 0

    .section .bss
    .space 4096
stack:
    .section .note.GNU-stack, "", @progbits
