// Stacks, switched by hand on x86-64, where it takes a few nanoseconds, and elsewhere by
// swapcontext, which asks the kernel.

#define _GNU_SOURCE
#include "stack.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

// Enough for what kernels hold in arrays of their own; what goes beyond hits a page that is not
// there.
enum { SIZE = 256 << 10, PAGE = 4096 };

static __thread struct Stack *current;

struct Stack *current_stack(void) { return current; }

static void begin(void) {
    current->body();
    abort();
}

static char *map(void) {
    char *low = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (low == MAP_FAILED || mprotect(low, PAGE, PROT_NONE)) {
        perror("a stack for a thread of a kernel");
        abort();
    }
    return low;
}

#ifdef __x86_64__

// Saves the registers that a function keeps (System V ABI), and the top of the stack.
void stand_in_switch(void **from, void *to);
__asm__(".text\n"
        ".globl stand_in_switch\n"
        ".hidden stand_in_switch\n"
        ".type stand_in_switch, @function\n"
        "stand_in_switch:\n"
        "    push %rbp\n    push %rbx\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbx\n    pop %rbp\n"
        "    ret\n"
        ".size stand_in_switch, . - stand_in_switch\n");

struct Stack *new_stack(void (*body)(void)) {
    struct Stack *stack = calloc(1, sizeof *stack);
    // Six registers, then where to return to; a function expects the stack 8 off a multiple of 16.
    stack->memory = map();
    void **top = (void **)((char *)stack->memory + SIZE) - 8;
    top[6] = (void *)begin;
    stack->at = top;
    stack->body = body;
    return stack;
}

static void free_context(void *at) {}

void switch_stack(struct Stack *from, struct Stack *to) {
    current = to;
    stand_in_switch(&from->at, to->at);
}

#else

struct Stack *new_stack(void (*body)(void)) {
    struct Stack *stack = calloc(1, sizeof *stack);
    ucontext_t *context = calloc(1, sizeof *context);
    getcontext(context);
    context->uc_stack.ss_sp = stack->memory = map();
    context->uc_stack.ss_size = SIZE;
    makecontext(context, begin, 0);
    stack->at = context;
    stack->body = body;
    return stack;
}

static void free_context(void *at) { free(at); }

void switch_stack(struct Stack *from, struct Stack *to) {
    if (!from->at) from->at = calloc(1, sizeof(ucontext_t));
    current = to;
    swapcontext(from->at, to->at);
}

#endif

void free_stack(struct Stack *stack) {
    munmap(stack->memory, SIZE);
    free_context(stack->at);
    free(stack);
}
