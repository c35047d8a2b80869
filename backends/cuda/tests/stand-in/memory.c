// Device memory. Fresh memory has all bits set, which is no number (NaN) in any format, and so has
// what lies before and behind an allocation, and what was freed: what reads there shows, what
// writes there is seen.

#include "memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"

// All guards are looked at after every launch. CubeCL wants what it is given at multiples of 512.
enum { GUARD = 512 };

struct Allocation {
    unsigned char *at;
    size_t bytes;
    int leaving; // a stream has it to free
    struct Allocation *next;
};

// Of the host's memory.
struct Pinned {
    char *at;
    size_t bytes;
    struct Pinned *next;
};

static struct Allocation *all;
static struct Pinned *all_pinned;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int guard_is_whole(const unsigned char *guard) {
    static unsigned char whole[GUARD];
    if (!*whole) memset(whole, 0xff, GUARD);
    return !memcmp(guard, whole, GUARD);
}

static int is_whole(const struct Allocation *one) {
    return guard_is_whole(one->at - GUARD) && guard_is_whole(one->at + one->bytes);
}

int memory_is_whole(const char *kernel) {
    int whole = 1;
    pthread_mutex_lock(&lock);
    for (const struct Allocation *one = all; one; one = one->next)
        if (!is_whole(one)) {
            fprintf(stderr, "%s: memory was written beside an allocation of %zu bytes\n", kernel,
                    one->bytes);
            whole = 0;
        }
    pthread_mutex_unlock(&lock);
    return whole;
}

// What a device has: 16 GB, or STAND_IN_MEMORY (environment) bytes.
size_t device_memory(void) {
    const char *set = getenv("STAND_IN_MEMORY");
    return set ? strtoull(set, NULL, 10) : (size_t)16 << 30;
}

static size_t taken(void) {
    size_t bytes = 0;
    for (const struct Allocation *one = all; one; one = one->next) bytes += one->bytes;
    return bytes;
}

Result cuMemGetInfo_v2(size_t *free, size_t *total) {
    pthread_mutex_lock(&lock);
    size_t used = taken();
    pthread_mutex_unlock(&lock);
    *total = device_memory();
    *free = used < *total ? *total - used : 0;
    return 0;
}

// STAND_IN_REFUSE=K (environment): the K-th request for memory, of a device or pinned, is refused.
static int is_refused(void) {
    static atomic_ulong requests;
    const char *set = getenv("STAND_IN_REFUSE");
    return set && atomic_fetch_add(&requests, 1) + 1 == strtoul(set, NULL, 10);
}

static Result allocate(Pointer *at, size_t bytes) {
    size_t whole = (bytes + 2 * GUARD + GUARD - 1) / GUARD * GUARD, free, total;
    cuMemGetInfo_v2(&free, &total);
    if (bytes > free) return OUT_OF_MEMORY;
    unsigned char *memory = aligned_alloc(GUARD, whole);
    struct Allocation *one = malloc(sizeof *one);
    if (!memory || !one) return OUT_OF_MEMORY;
    if (getenv("STAND_IN_LOG")) fprintf(stderr, "allocated %zu bytes\n", bytes);
    memset(memory, 0xff, whole);
    *one = (struct Allocation){memory + GUARD, bytes, 0, NULL};
    pthread_mutex_lock(&lock);
    one->next = all;
    all = one;
    pthread_mutex_unlock(&lock);
    *at = (Pointer)one->at;
    return 0;
}

// Where the first gives none, CubeCL asks the second: a refusal is of both.
static atomic_int refused_once;

// Memory is there at the call, sooner than CUDA says: in its stream's order.
Result cuMemAllocAsync(Pointer *at, size_t bytes, struct Stream *stream) {
    if (!is_refused()) return allocate(at, bytes);
    refused_once = 1;
    return OUT_OF_MEMORY;
}

Result cuMemAlloc_v2(Pointer *at, size_t bytes) {
    return atomic_exchange(&refused_once, 0) ? OUT_OF_MEMORY : allocate(at, bytes);
}

struct Free {
    struct Work work;
    struct Allocation *one;
};

static Result run_free(const struct Work *work) {
    struct Allocation *one = ((const struct Free *)work)->one;
    pthread_mutex_lock(&lock);
    struct Allocation **place = &all;
    while (*place != one) place = &(*place)->next;
    *place = one->next;
    pthread_mutex_unlock(&lock);
    memset(one->at, 0xff, one->bytes);
    free(one->at - GUARD);
    free(one);
    return 0;
}

Result cuMemFreeAsync(Pointer at, struct Stream *stream) {
    struct Free *work = malloc(sizeof *work);
    if (!work) return OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    struct Allocation *one = all;
    while (one && (one->at != (unsigned char *)at || one->leaving)) one = one->next;
    if (one) one->leaving = 1;
    pthread_mutex_unlock(&lock);
    *work = (struct Free){{run_free}, one};
    if (one) return append(stream, &work->work);
    free(work);
    fprintf(stderr, "memory was freed that is not allocated\n");
    return INVALID;
}

Result cuMemAllocHost_v2(void **at, size_t bytes) {
    if (is_refused()) return OUT_OF_MEMORY;
    struct Pinned *one = malloc(sizeof *one);
    *at = calloc(bytes ? bytes : 1, 1);
    if (!*at || !one) return OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    *one = (struct Pinned){*at, bytes, all_pinned};
    all_pinned = one;
    pthread_mutex_unlock(&lock);
    return 0;
}

Result cuMemFreeHost(void *at) {
    pthread_mutex_lock(&lock);
    struct Pinned **place = &all_pinned;
    while (*place && (*place)->at != at) place = &(*place)->next;
    struct Pinned *one = *place;
    if (one) *place = one->next;
    pthread_mutex_unlock(&lock);
    if (!one) {
        fprintf(stderr, "pinned memory was freed that is not allocated\n");
        return INVALID;
    }
    Result answer = leave_host(at, one->bytes);
    free(at);
    free(one);
    return answer;
}

int is_pinned(const void *at, size_t bytes) {
    const char *low = at;
    pthread_mutex_lock(&lock);
    const struct Pinned *one = all_pinned;
    while (one && (low < one->at || low + bytes > one->at + one->bytes)) one = one->next;
    pthread_mutex_unlock(&lock);
    return one != NULL;
}
