// Kernels that run on the processors.
#pragma once

#include <stddef.h>

#include "include/stand_in.h"

struct Kernel {
    char *name;
    // Runs it for one thread; null where it was compiled for a GPU.
    void (*call)(void **arguments);
    // Of its parameters, and a zero behind the last.
    const size_t *sizes;
};

// Runs all blocks of a grid. Zero where a kernel did what no GPU takes, which is said on stderr.
int run_kernel(const struct Kernel *kernel, struct stand_in_index grid,
               struct stand_in_index block, unsigned shared, void **arguments);
