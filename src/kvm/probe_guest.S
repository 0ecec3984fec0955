/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe guest: entered in 64-bit mode at its first byte, ring 0, identity-mapped, interrupts
 * off. Each step writes its number to port 0xf1 before it begins; the end is announced on port
 * 0xf2; an exception that no step expects writes its vector to port 0xf3. Addresses are those of
 * probe.c's layout. Linux executes all of these within its first milliseconds.
 */
#define PORT_STEP      0xf1
#define PORT_DONE      0xf2
#define PORT_EXCEPTION 0xf3

#define DATA   0x10000
#define REMAP  0x1ff000  /* a page of its own, mapped in step 7 */
#define PTE    0x4ff8    /* its page table entry */

.macro step number
    mov $\number, %al
    out %al, $PORT_STEP
.endm

    .section .rodata
    .globl kvm_probe_guest, kvm_probe_guest_end
    .globl kvm_probe_stubs, kvm_probe_breakpoint
    .balign 16
    .code64
kvm_probe_guest:
    step 1  /* locked read-modify-write */
    movq $5, DATA
    lock addq $7, DATA
    mov $1, %eax
    lock xaddq %rax, DATA
    cmpq $13, DATA
    jne failed

    step 2  /* cmpxchg16b */
    mov $DATA + 64, %edi
    movq $1, (%rdi)
    movq $2, 8(%rdi)
    mov $1, %eax
    mov $2, %edx
    mov $3, %ebx
    mov $4, %ecx
    lock cmpxchg16b (%rdi)
    jne failed
    cmpq $4, 8(%rdi)
    jne failed

    step 3  /* SSE */
    mov %cr4, %rax
    or $0x600, %eax
    mov %rax, %cr4
    movups (%rdi), %xmm0
    paddq %xmm0, %xmm0
    movups %xmm0, 16(%rdi)
    cmpq $8, 24(%rdi)
    jne failed

    step 4  /* XSAVE, XRSTOR where CPUID has them */
    mov $1, %eax
    xor %ecx, %ecx
    cpuid
    bt $26, %ecx
    jnc 1f
    mov %cr4, %rax
    or $0x40000, %eax
    mov %rax, %cr4
    xor %ecx, %ecx
    xor %edx, %edx
    mov $3, %eax
    xsetbv
    mov $DATA + 0x1000, %edi
    xsave (%rdi)
    pxor %xmm0, %xmm0
    xrstor (%rdi)
    movups %xmm0, DATA + 128
    cmpq $8, DATA + 136
    jne failed
1:
    step 5  /* breakpoint and IRET */
    xor %ebx, %ebx
    int3
    cmp $1, %ebx
    jne failed

    step 6  /* MSRs and SWAPGS */
    mov $0xc0000102, %ecx
    mov $0x12345000, %eax
    xor %edx, %edx
    wrmsr
    swapgs
    mov $0xc0000101, %ecx
    rdmsr
    cmp $0x12345000, %eax
    jne failed

    step 7  /* a new mapping, seen after CR3 is written, and another after INVLPG */
    movq $DATA + 0x3003, PTE
    mov %cr3, %rax
    mov %rax, %cr3
    movq $77, DATA + 0x3000
    cmpq $77, REMAP
    jne failed
    movq $78, DATA + 0x2000
    movq $DATA + 0x2003, PTE
    invlpg REMAP
    cmpq $78, REMAP
    jne failed

    step 8  /* SYSRET to ring 3, SYSCALL back */
    mov $0xc0000080, %ecx
    rdmsr
    or $1, %eax
    wrmsr
    mov $0xc0000081, %ecx
    xor %eax, %eax
    mov $0x00100008, %edx
    wrmsr
    mov $0xc0000082, %ecx
    lea syscall_entry(%rip), %rax
    xor %edx, %edx
    wrmsr
    mov $0xc0000084, %ecx
    xor %eax, %eax
    wrmsr
    lea user_code(%rip), %rcx
    mov $0x2, %r11d
    xor %ebx, %ebx
    sysretq

user_code:
    mov $42, %ebx
    mov %cs, %edx
    syscall
    ud2

syscall_entry:
    cmp $42, %ebx
    jne failed
    and $3, %edx
    cmp $3, %edx
    jne failed
    xor %eax, %eax
    out %al, $PORT_DONE
    hlt

failed:
    mov $0xff, %al
    out %al, $PORT_EXCEPTION
    hlt

kvm_probe_breakpoint:
    mov $1, %ebx
    iretq

    /* One stub of 16 bytes for each exception vector. */
    .balign 16
kvm_probe_stubs:
    vector = 0
    .rept 32
    .balign 16
    mov $vector, %al
    out %al, $PORT_EXCEPTION
    hlt
    vector = vector + 1
    .endr
    .balign 16
kvm_probe_guest_end:

    .section .note.GNU-stack, "", @progbits
