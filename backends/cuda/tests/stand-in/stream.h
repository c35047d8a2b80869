// Streams: queues of work, whose order is all that CUDA promises.
#pragma once

#include <stddef.h>

typedef int Result; // 0: success
enum {
    INVALID = 1,
    OUT_OF_MEMORY = 2,
    NO_IMAGE = 200,
    NO_HANDLE = 400,
    NOT_FOUND = 500,
    FAILED = 719
};

struct Stream;

// What a stream has to do: the first member of a block that malloc gave, and that is freed when it
// is done.
struct Work {
    Result (*run)(const struct Work *work);
    // The pinned memory that it reads or writes; null without.
    const void *host;
    size_t bytes;
    struct Work *next;
};

// Gives `work` to a stream, as its last. Answers, as all that waits does, what the first work that
// failed did.
Result append(struct Stream *stream, struct Work *work);

// Does all that a stream was given.
Result cuStreamSynchronize(struct Stream *stream);

// Pinned memory is about to be freed, which must not be while a stream has work with it.
Result leave_host(const void *at, size_t bytes);
