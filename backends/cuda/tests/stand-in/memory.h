// Device memory, in the processor's, with guards around every allocation, and pinned memory.
#pragma once

#include <stddef.h>

typedef unsigned long long Pointer;

// Bytes of it.
size_t device_memory(void);

// Whether all guards are as they were; else it says so, of the kernel that has just run.
int memory_is_whole(const char *kernel);

// Whether the host's memory is pinned, so that a copy works with it when the copy is done.
int is_pinned(const void *at, size_t bytes);
