// What a kernel that runs on a processor sees of the driver: its place, and how threads meet.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

struct stand_in_index {
    unsigned x, y, z;
};

// Of the thread that runs. One to an operating system's thread, and set whenever another is run.
struct stand_in_place {
    struct stand_in_index thread, block, block_size, grid_size;
    // The number of the thread within its warp, and how many the warp has.
    unsigned lane, lanes;
};
extern __thread struct stand_in_place stand_in_here;

// Waits for all threads of the block. `line` tells one barrier of a kernel from another.
void stand_in_barrier(int line);

// Waits for all threads of the warp.
void stand_in_meet(int line);

// Room for what the threads of a warp tell each other when they next meet: written before, read
// after. It keeps its content until the meeting after that.
enum { STAND_IN_ROOM = 4096 };
void *stand_in_room(void);

// Ends the launch, and says why.
void stand_in_stop(const char *why);

#ifdef __cplusplus
}
#endif
