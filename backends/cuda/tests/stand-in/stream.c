// Streams and events. CUDA says in which order the work of one stream is done, and that it is when
// somebody has waited for it, and no more. What a stream is given is done at the call, as early as
// may be; with STAND_IN_LATE (environment), as late as may be: when the host waits for it, or runs
// what waits for it. A program where a wait is missing between two streams, or between a stream
// and the host, then computes with what was there before, or with what came after. On a GPU it
// seldom does, and never when it is looked for.
//
// The default stream, which waits for others without being told to, is not there.

#include "stream.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct Stream {
    struct Work *first, **last; // of what is to be done
    unsigned long given, done;  // pieces of work
    int late, destroyed;
    struct Stream *next;
};

// How far the stream had been given work when the event was recorded last; null before. Whoever
// waits keeps that, and none needs the event itself.
struct Event {
    struct Stream *stream;
    unsigned long given;
};

// Never freed: what they still have to do may be waited for after they are destroyed.
static struct Stream *all;
// Of the first work that did what none may: all that follows fails too, as on a GPU.
static Result broken;
// Held while work is done, and taken before any other.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void run_until(struct Stream *stream, unsigned long given) {
    while (stream->done < given) {
        struct Work *work = stream->first;
        stream->first = work->next;
        if (!stream->first) stream->last = &stream->first;
        stream->done++;
        if (!broken) broken = work->run(work);
        free(work);
    }
}

Result cuStreamCreate(struct Stream **stream, unsigned flags) {
    struct Stream *one = calloc(1, sizeof *one);
    if (!one) return OUT_OF_MEMORY;
    one->last = &one->first;
    one->late = getenv("STAND_IN_LATE") != NULL;
    pthread_mutex_lock(&lock);
    one->next = all;
    all = one;
    pthread_mutex_unlock(&lock);
    *stream = one;
    return 0;
}

static int is_there(const struct Stream *stream) {
    if (stream && !stream->destroyed) return 1;
    fprintf(stderr, stream ? "a stream is used that was destroyed\n"
                           : "the default stream is used, which the stand-in has not\n");
    return 0;
}

// Takes `lock` where the stream may be used; else it says so.
static int enter(const struct Stream *stream) {
    pthread_mutex_lock(&lock);
    if (is_there(stream)) return 1;
    pthread_mutex_unlock(&lock);
    return 0;
}

// Gives back `lock`, and what is to be answered.
static Result leave(void) {
    Result answer = broken;
    pthread_mutex_unlock(&lock);
    return answer;
}

// What it has still to do is done when it is waited for, as CUDA leaves it to be.
Result cuStreamDestroy_v2(struct Stream *stream) {
    if (!enter(stream)) return NO_HANDLE;
    stream->destroyed = 1;
    return leave();
}

Result append(struct Stream *stream, struct Work *work) {
    if (!enter(stream)) {
        free(work);
        return NO_HANDLE;
    }
    work->next = NULL;
    *stream->last = work;
    stream->last = &work->next;
    stream->given++;
    if (!stream->late) run_until(stream, stream->given);
    return leave();
}

Result cuStreamSynchronize(struct Stream *stream) {
    if (!enter(stream)) return NO_HANDLE;
    run_until(stream, stream->given);
    return leave();
}

Result cuEventCreate(struct Event **event, unsigned flags) {
    *event = calloc(1, sizeof **event);
    return *event ? 0 : OUT_OF_MEMORY;
}

Result cuEventDestroy_v2(struct Event *event) {
    free(event);
    return 0;
}

Result cuEventRecord(struct Event *event, struct Stream *stream) {
    if (!enter(stream)) return NO_HANDLE;
    *event = (struct Event){stream, stream->given};
    return leave();
}

Result cuEventSynchronize(struct Event *event) {
    pthread_mutex_lock(&lock);
    if (event->stream) run_until(event->stream, event->given);
    return leave();
}

struct Wait {
    struct Work work;
    struct Event until;
};

// What it waits for was given before it was, so that no two wait for each other.
static Result run_wait(const struct Work *work) {
    const struct Event *until = &((const struct Wait *)work)->until;
    run_until(until->stream, until->given);
    return broken;
}

Result cuStreamWaitEvent(struct Stream *stream, struct Event *event, unsigned flags) {
    struct Wait *wait = malloc(sizeof *wait);
    if (!wait) return OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    *wait = (struct Wait){{run_wait}, *event};
    pthread_mutex_unlock(&lock);
    if (wait->until.stream) return append(stream, &wait->work);
    free(wait);
    return 0;
}

Result leave_host(const void *at, size_t bytes) {
    const char *low = at;
    pthread_mutex_lock(&lock);
    for (const struct Stream *stream = all; stream; stream = stream->next)
        for (const struct Work *work = stream->first; work; work = work->next) {
            const char *host = work->host;
            if (!host || host >= low + bytes || host + work->bytes <= low) continue;
            fprintf(stderr, "pinned memory of %zu bytes is freed that a stream has still to copy\n",
                    bytes);
            broken = FAILED;
        }
    return leave();
}
