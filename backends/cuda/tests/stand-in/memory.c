// Device memory. Fresh memory has all bits set, which is no number (NaN) in any format, and so has
// what lies before and behind an allocation: what reads there shows, what writes there is seen.

#include "memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// All guards are looked at after every launch. CubeCL wants what it is given at multiples of 512.
enum { GUARD = 512, OUT_OF_MEMORY = 2 };

struct Allocation {
    unsigned char *at;
    size_t bytes;
    struct Allocation *next;
};

static struct Allocation *all;
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

int cuMemAllocAsync(Pointer *at, size_t bytes, void *stream) {
    size_t whole = (bytes + 2 * GUARD + GUARD - 1) / GUARD * GUARD;
    unsigned char *memory = aligned_alloc(GUARD, whole);
    struct Allocation *one = malloc(sizeof *one);
    if (!memory || !one) return OUT_OF_MEMORY;
    if (getenv("STAND_IN_LOG")) fprintf(stderr, "allocated %zu bytes\n", bytes);
    memset(memory, 0xff, whole);
    *one = (struct Allocation){memory + GUARD, bytes, NULL};
    pthread_mutex_lock(&lock);
    one->next = all;
    all = one;
    pthread_mutex_unlock(&lock);
    *at = (Pointer)one->at;
    return 0;
}

int cuMemFreeAsync(Pointer at, void *stream) {
    pthread_mutex_lock(&lock);
    struct Allocation **place = &all;
    while (*place && (*place)->at != (unsigned char *)at) place = &(*place)->next;
    struct Allocation *one = *place;
    if (one) *place = one->next;
    pthread_mutex_unlock(&lock);
    if (!one) {
        fprintf(stderr, "memory was freed that is not allocated\n");
        return 1;
    }
    free(one->at - GUARD);
    free(one);
    return 0;
}

int cuMemAllocHost_v2(void **at, size_t bytes) {
    *at = calloc(bytes ? bytes : 1, 1);
    return *at ? 0 : OUT_OF_MEMORY;
}

int cuMemFreeHost(void *at) {
    free(at);
    return 0;
}
