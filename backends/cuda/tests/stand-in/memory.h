// Device memory, in the processor's, with guards around every allocation.
#pragma once

typedef unsigned long long Pointer;

// Whether all guards are as they were; else it says so, of the kernel that has just run.
int memory_is_whole(const char *kernel);
