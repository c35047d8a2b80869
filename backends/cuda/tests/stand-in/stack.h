// Stacks that a thread of the operating system switches between.
#pragma once

struct Stack {
    struct Stack *next; // in a list of its owner's
    void *at;           // where it is left, as switch_stack has it
    void (*body)(void);
    void *memory;
};

// A stack that runs `body`, which never returns, when it is first switched to.
struct Stack *new_stack(void (*body)(void));

// Frees a stack that is not switched to again.
void free_stack(struct Stack *stack);

// The stack that the thread of the operating system is on, if it is one of new_stack's.
struct Stack *current_stack(void);

// Leaves `from` for `to`; returns when `from` is switched to.
void switch_stack(struct Stack *from, struct Stack *to);
