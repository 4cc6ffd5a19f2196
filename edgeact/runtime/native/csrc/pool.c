/* Threads that wait by spinning for a moment, then sleep: steps are a few microseconds long, frames far apart. */
#include "engine.h"

#include <immintrin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { SPINS = 4000 };

struct ea_engine {
    int threads, instructions;
    const ea_step *steps;
    int count;
    atomic_int run;        /* number of the run; negative: stop */
    atomic_int *next;      /* chunk to take next, of every step and every thread's share of it */
    atomic_int *left;      /* chunks of a step that are not done */
    int capacity;
    atomic_int sleeping;
    atomic_int open;       /* the run that helpers may join: one that wakes up late must not hold up the rest */
    atomic_int at_work;    /* helpers that joined it */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct ea_helper *helpers;
};

typedef struct ea_helper {
    ea_engine *engine;
    int thread;
    pthread_t id;
} ea_helper;

/* A chunk of the thread's own share of a step, or when that is done of another's; -1 when there is none. A thread has the
 * same share of all steps, so most of what it reads it has written itself, into its own cache. */
static int taken(ea_engine *engine, int index, int thread, int chunks)
{
    for (int which = 0; which < engine->threads; which++) {
        int whose = (thread + which) % engine->threads;
        int end = (int)((int64_t)chunks * (whose + 1) / engine->threads);
        atomic_int *next = &engine->next[index * engine->threads + whose];
        if (atomic_load_explicit(next, memory_order_relaxed) < end) {
            int chunk = atomic_fetch_add(next, 1);
            if (chunk < end)
                return chunk;
        }
    }
    return -1;
}

/* Take chunks of every step until there are none; a step begins when the one before is done. */
static void work(ea_engine *engine, int thread, double *us)
{
    struct timespec before, after;
    if (us)
        clock_gettime(CLOCK_MONOTONIC, &before);
    for (int index = 0; index < engine->count; index++) {
        const ea_step *step = &engine->steps[index];
        int chunks = ea_chunks(step), chunk;
        while ((chunk = taken(engine, index, thread, chunks)) >= 0) {
            ea_do(step, chunk, engine->instructions);
            atomic_fetch_sub(&engine->left[index], 1);
        }
        for (int spins = 0; atomic_load_explicit(&engine->left[index], memory_order_acquire) > 0; spins++) {
            _mm_pause();
            if (spins > SPINS) { /* another process has the core that does the rest */
                struct timespec moment = {0, 20000};
                nanosleep(&moment, NULL);
            }
        }
        if (us) {
            clock_gettime(CLOCK_MONOTONIC, &after);
            us[index] = (after.tv_sec - before.tv_sec) * 1e6 + (after.tv_nsec - before.tv_nsec) / 1e3;
            before = after;
        }
    }
}

static void *help(void *argument)
{
    ea_helper *helper = argument;
    ea_engine *engine = helper->engine;
    int seen = 0;
    if (engine->instructions == EA_AMX)
        ea_tiles_begin();
    for (;;) {
        int run = atomic_load_explicit(&engine->run, memory_order_acquire);
        for (int spins = 0; run == seen && spins < SPINS * 8; spins++) {
            _mm_pause();
            run = atomic_load_explicit(&engine->run, memory_order_acquire);
        }
        if (run == seen) {
            pthread_mutex_lock(&engine->mutex);
            atomic_fetch_add(&engine->sleeping, 1);
            while ((run = atomic_load(&engine->run)) == seen)
                pthread_cond_wait(&engine->wake, &engine->mutex);
            atomic_fetch_sub(&engine->sleeping, 1);
            pthread_mutex_unlock(&engine->mutex);
        }
        if (run < 0)
            break;
        seen = run;
        atomic_fetch_add(&engine->at_work, 1);
        if (atomic_load(&engine->open) == run)
            work(engine, helper->thread, NULL);
        atomic_fetch_sub(&engine->at_work, 1);
    }
    if (engine->instructions == EA_AMX)
        ea_tiles_end();
    return NULL;
}

static void start(ea_engine *engine, int run)
{
    atomic_store(&engine->run, run);
    pthread_mutex_lock(&engine->mutex);
    if (atomic_load(&engine->sleeping) > 0)
        pthread_cond_broadcast(&engine->wake);
    pthread_mutex_unlock(&engine->mutex);
}

ea_engine *ea_open(int threads, int instructions)
{
    ea_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return NULL;
    engine->threads = 1;
    engine->instructions = instructions;
    engine->helpers = calloc(threads, sizeof *engine->helpers);
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->wake, NULL);
    for (; engine->helpers && engine->threads < threads; engine->threads++) {
        ea_helper *helper = &engine->helpers[engine->threads];
        *helper = (ea_helper){.engine = engine, .thread = engine->threads};
        if (pthread_create(&helper->id, NULL, help, helper) != 0)
            break;
    }
    if (engine->threads < threads) {
        ea_close(engine);
        return NULL;
    }
    return engine;
}

void ea_run(ea_engine *engine, const ea_step *steps, int count, double *us)
{
    if (count > engine->capacity) {
        free(engine->next);
        free(engine->left);
        engine->next = calloc((size_t)count * engine->threads, sizeof *engine->next);
        engine->left = calloc(count, sizeof *engine->left);
        engine->capacity = count;
    }
    engine->steps = steps;
    engine->count = count;
    for (int index = 0; index < count; index++) {
        int chunks = ea_chunks(&steps[index]);
        for (int thread = 0; thread < engine->threads; thread++)
            atomic_store(&engine->next[index * engine->threads + thread], (int)((int64_t)chunks * thread / engine->threads));
        atomic_store(&engine->left[index], chunks);
    }
    int run = atomic_load(&engine->run);
    run = run == INT32_MAX ? 1 : run + 1;
    atomic_store(&engine->open, run);
    start(engine, run);
    if (engine->instructions == EA_AMX)
        ea_tiles_begin();
    work(engine, 0, us);
    if (engine->instructions == EA_AMX)
        ea_tiles_end(); /* the caller's thread goes on with other work */
    atomic_store(&engine->open, 0);
    while (atomic_load(&engine->at_work) > 0)
        _mm_pause();
}

void ea_close(ea_engine *engine)
{
    start(engine, -1);
    for (int index = 1; index < engine->threads; index++)
        pthread_join(engine->helpers[index].id, NULL);
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->mutex);
    free(engine->helpers);
    free(engine->next);
    free(engine->left);
    free(engine);
}
