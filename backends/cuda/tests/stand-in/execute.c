// Runs kernels on the processors: blocks on threads of the operating system, and the threads of a
// block on stacks of their own, of which one runs until it has to wait for the others.
//
// A thread runs on as far as it can, and the last to arrive goes on first, so that a barrier that
// is missing shows. STAND_IN_REVERSED (environment) starts a block's threads from the last on.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "execute.h"
#include "stack.h"

enum { THREADS = 1024, WARP = 32, WARPS = THREADS / WARP, SHARED = 232448, CANARY = 256 };

// Shared memory, in the name that CubeCL declares it by, and behind it bytes that none may write.
__thread unsigned char dynamic_shared_mem[SHARED + CANARY] __attribute__((aligned(1024)));
__thread struct stand_in_place stand_in_here;

// A grid that is run.
struct Launch {
    const struct Kernel *kernel;
    void **arguments;
    struct stand_in_index grid, block;
    unsigned shared;
    atomic_ulong next; // block
    atomic_int failed;
};

// The threads of a block that wait for each other, and the line of the barrier they wait at.
struct Meeting {
    unsigned count;
    int line;
};

// One of the operating system's threads, with the block that it runs.
static __thread struct Crew {
    struct Launch *launch;
    unsigned threads, started, ended, now;
    const char *why; // it was stopped, in words
    struct Meeting block, warps[WARPS];
    // By warp, a bit for each thread: those that wait for the block or the warp, and those that
    // need not wait any longer.
    unsigned for_block[WARPS], for_warp[WARPS], ready[WARPS];
    struct Stack *stacks[THREADS]; // of those that have started and not ended
    struct Stack *idle;
    struct Stack home;
    unsigned meetings[THREADS];
    struct stand_in_index indices[THREADS], shape;
    char (*room)[2][STAND_IN_ROOM];
} crew;

// The operating system's threads beside the one that launches, and what they work on.
static struct {
    pthread_mutex_t lock, launches;
    pthread_cond_t work, rest;
    struct Launch *launch;
    unsigned long turn; // of launches
    int helpers, busy, reversed;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .launches = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .rest = PTHREAD_COND_INITIALIZER,
          .helpers = -1};

static unsigned lanes(unsigned warp) {
    unsigned rest = crew.threads - warp * WARP;
    return rest < WARP ? rest : WARP;
}

static void be(unsigned thread) {
    crew.now = thread;
    stand_in_here.thread = crew.indices[thread];
    stand_in_here.lane = thread % WARP;
    stand_in_here.lanes = lanes(thread / WARP);
}

// The body of every stack: runs threads from their beginning for as long as there are any.
static void run_threads(void);

static struct Stack *take_stack(void) {
    struct Stack *stack = crew.idle;
    if (!stack) return new_stack(run_threads);
    crew.idle = stack->next;
    return stack;
}

// What runs next where the thread `now` cannot: one of its warp, one that has not started, any
// that need not wait; else the block has ended, or is stuck.
static struct Stack *next_stack(void) {
    unsigned own = crew.now / WARP, warp = own;
    if (!crew.ready[own]) {
        if (crew.started < crew.threads) return take_stack();
        for (unsigned k = 1; k < WARPS && !crew.ready[warp]; k++) warp = (own + k) % WARPS;
    }
    if (!crew.ready[warp]) return &crew.home;
    unsigned bit = __builtin_ctz(crew.ready[warp]);
    crew.ready[warp] &= ~(1u << bit);
    be(warp * WARP + bit);
    return crew.stacks[crew.now];
}

static void run_threads(void) {
    for (;;) {
        while (crew.started < crew.threads && !crew.ready[crew.now / WARP]) {
            unsigned k = crew.started++;
            be(pool.reversed ? crew.threads - 1 - k : k);
            crew.launch->kernel->call(crew.launch->arguments);
            crew.ended++;
        }
        struct Stack *own = current_stack(), *next = next_stack();
        own->next = crew.idle;
        crew.idle = own;
        switch_stack(own, next);
    }
}

static void wait(void) {
    unsigned thread = crew.now;
    struct Stack *own = crew.stacks[thread] = current_stack();
    switch_stack(own, next_stack());
}

void stand_in_stop(const char *why) {
    crew.why = why;
    switch_stack(current_stack(), &crew.home);
}

// Counts the thread that runs among those of a meeting; whether it was the last.
static int arrive(struct Meeting *meeting, unsigned of, int line) {
    if (meeting->count && meeting->line != line)
        stand_in_stop("threads wait at different barriers");
    meeting->line = line;
    if (++meeting->count < of) return 0;
    meeting->count = 0;
    return 1;
}

void stand_in_barrier(int line) {
    unsigned thread = crew.now;
    if (arrive(&crew.block, crew.threads, line)) {
        for (unsigned warp = 0; warp * WARP < crew.threads; warp++) {
            crew.ready[warp] |= crew.for_block[warp];
            crew.for_block[warp] = 0;
        }
    } else {
        crew.for_block[thread / WARP] |= 1u << thread % WARP;
        wait();
    }
}

void stand_in_meet(int line) {
    unsigned thread = crew.now, warp = thread / WARP;
    crew.meetings[thread]++;
    if (arrive(&crew.warps[warp], lanes(warp), line)) {
        crew.ready[warp] |= crew.for_warp[warp];
        crew.for_warp[warp] = 0;
    } else {
        crew.for_warp[warp] |= 1u << thread % WARP;
        wait();
    }
}

void *stand_in_room(void) {
    return crew.room[crew.now / WARP][crew.meetings[crew.now] % 2];
}

// What is wrong with a block that has run, in words; null where nothing is.
static const char *fault(void) {
    if (crew.why) return crew.why;
    if (crew.ended < crew.threads) return "some threads wait at a barrier that others do not reach";
    for (unsigned k = 0; k < CANARY; k++)
        if (dynamic_shared_mem[crew.launch->shared + k] != 0xff)
            return "shared memory was written behind its end";
    return NULL;
}

static void report(const char *why) {
    const struct stand_in_index *block = &stand_in_here.block;
    fprintf(stderr, "%s, block %u %u %u: %s\n", crew.launch->kernel->name, block->x, block->y,
            block->z, why);
    fprintf(stderr, "  of %u threads %u have ended; %u wait for their block, in line %d\n",
            crew.threads, crew.ended, crew.block.count, crew.block.line);
    for (unsigned warp = 0; warp < WARPS; warp++)
        if (crew.warps[warp].count)
            fprintf(stderr, "  %u wait for their warp, %u, in line %d\n", crew.warps[warp].count,
                    warp, crew.warps[warp].line);
    atomic_store(&crew.launch->failed, 1);
    // The stacks are left as they are, and not used again.
    memset(&crew.block, 0, sizeof crew.block);
    memset(crew.warps, 0, sizeof crew.warps);
    memset(crew.for_block, 0, sizeof crew.for_block);
    memset(crew.for_warp, 0, sizeof crew.for_warp);
    memset(crew.ready, 0, sizeof crew.ready);
    crew.idle = NULL;
}

static void run_block(void) {
    // Of no number, and of no sense as an index.
    memset(dynamic_shared_mem, 0xff, crew.launch->shared + CANARY);
    memset(crew.meetings, 0, crew.threads * sizeof *crew.meetings);
    crew.started = crew.ended = crew.now = 0;
    crew.why = NULL;
    switch_stack(&crew.home, take_stack());
    const char *why = fault();
    if (why) report(why);
}

static void number_threads(struct stand_in_index shape) {
    crew.threads = shape.x * shape.y * shape.z;
    if (!memcmp(&shape, &crew.shape, sizeof shape)) return;
    crew.shape = shape;
    for (unsigned k = 0; k < crew.threads; k++)
        crew.indices[k] = (struct stand_in_index){k % shape.x, k / shape.x % shape.y,
                                                  k / shape.x / shape.y};
}

static pthread_key_t ends;

// Of a thread that ends: many may wait for a stream, and so run what it has to do.
static void leave_crew(void *nothing) {
    while (crew.idle) {
        struct Stack *stack = crew.idle;
        crew.idle = stack->next;
        free_stack(stack);
    }
    free(crew.room);
    crew.room = NULL;
}

static void join_crew(void) {
    crew.room = malloc(WARPS * sizeof *crew.room);
    pthread_setspecific(ends, crew.room);
}

static void run_blocks(struct Launch *launch) {
    struct stand_in_index grid = launch->grid;
    unsigned long blocks = (unsigned long)grid.x * grid.y * grid.z, k;
    crew.launch = launch;
    if (!crew.room) join_crew();
    number_threads(launch->block);
    stand_in_here.block_size = launch->block;
    stand_in_here.grid_size = grid;
    while ((k = atomic_fetch_add(&launch->next, 1)) < blocks && !atomic_load(&launch->failed)) {
        stand_in_here.block =
            (struct stand_in_index){k % grid.x, k / grid.x % grid.y, k / grid.x / grid.y};
        run_block();
    }
}

static void *help(void *nothing) {
    unsigned long seen = 0;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.turn == seen || !pool.launch) pthread_cond_wait(&pool.work, &pool.lock);
        seen = pool.turn;
        struct Launch *launch = pool.launch;
        pool.busy++;
        pthread_mutex_unlock(&pool.lock);
        run_blocks(launch);
        pthread_mutex_lock(&pool.lock);
        if (!--pool.busy) pthread_cond_signal(&pool.rest);
    }
    return nothing;
}

static void hire(void) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    pool.reversed = getenv("STAND_IN_REVERSED") != NULL;
    pthread_key_create(&ends, leave_crew);
    for (pool.helpers = 0; pool.helpers < processors - 1; pool.helpers++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, NULL)) break;
        pthread_detach(thread);
    }
}

int run_kernel(const struct Kernel *kernel, struct stand_in_index grid,
               struct stand_in_index block, unsigned shared, void **arguments) {
    struct Launch launch = {.kernel = kernel, .arguments = arguments, .grid = grid,
                            .block = block, .shared = shared};
    pthread_mutex_lock(&pool.launches);
    if (pool.helpers < 0) hire();
    int alone = (unsigned long)grid.x * grid.y * grid.z == 1;
    if (!alone) {
        pthread_mutex_lock(&pool.lock);
        pool.launch = &launch;
        pool.turn++;
        pthread_cond_broadcast(&pool.work);
        pthread_mutex_unlock(&pool.lock);
    }
    run_blocks(&launch);
    if (!alone) {
        pthread_mutex_lock(&pool.lock);
        pool.launch = NULL;
        while (pool.busy) pthread_cond_wait(&pool.rest, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.launches);
    return !launch.failed;
}
