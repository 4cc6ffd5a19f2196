/* Threads that wait by spinning briefly, then sleep: instructions take microseconds, clips are far apart. */
#include "engine.h"

#include "vectors.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { SPINS = 4000 };

struct ea_engine {
    int threads, isa;
    ea_compute *compute;
    const ea_op *program;
    int count;
    atomic_int run;            /* number of the current run; negative: stop */
    atomic_int *next_chunk;    /* (instructions, threads): next chunk of each thread's share */
    atomic_int *chunks_left;   /* (instructions): unfinished chunks */
    int capacity;              /* instructions that both arrays hold */
    atomic_int sleeping;       /* helpers that wait for `wake` */
    atomic_int open_run;       /* the run that helpers may join; a helper that wakes up late skips a closed run */
    atomic_int active_helpers; /* helpers that joined a run and have not left it */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct ea_helper *helpers;
};

typedef struct ea_helper {
    ea_engine *engine;
    int thread;
    pthread_t id;
} ea_helper;

/* Take a chunk of the thread's own share of an instruction, then of the other threads' shares; -1 if none is
 * left. A thread has the same share of all instructions, so it reads mostly what it wrote itself, from its own
 * cache. */
static int take_chunk(ea_engine *engine, int index, int thread, int chunks)
{
    for (int offset = 0; offset < engine->threads; offset++) {
        int owner = (thread + offset) % engine->threads;
        int end = (int)((int64_t)chunks * (owner + 1) / engine->threads);
        atomic_int *next_chunk = &engine->next_chunk[index * engine->threads + owner];
        if (atomic_load_explicit(next_chunk, memory_order_relaxed) < end) {
            int chunk = atomic_fetch_add(next_chunk, 1);
            if (chunk < end)
                return chunk;
        }
    }
    return -1;
}

/* Compute chunks of every instruction until none is left; an instruction begins when the one before is complete. */
static void work(ea_engine *engine, int thread, double *us)
{
    struct timespec before, after;
    if (us)
        clock_gettime(CLOCK_MONOTONIC, &before);
    for (int index = 0; index < engine->count; index++) {
        const ea_op *op = &engine->program[index];
        int chunks = ea_chunks(op), chunk;
        while ((chunk = take_chunk(engine, index, thread, chunks)) >= 0) {
            engine->compute(op, chunk, engine->isa, thread);
            atomic_fetch_sub(&engine->chunks_left[index], 1);
        }
        for (int spins = 0; atomic_load_explicit(&engine->chunks_left[index], memory_order_acquire) > 0; spins++) {
            ea_pause();
            if (spins > SPINS) { /* another process occupies the core of the thread with the last chunk */
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
    if (engine->isa == EA_AMX_INT8)
        ea_tiles_begin();
    for (;;) {
        int run = atomic_load_explicit(&engine->run, memory_order_acquire);
        for (int spins = 0; run == seen && spins < SPINS * 8; spins++) {
            ea_pause();
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
        atomic_fetch_add(&engine->active_helpers, 1);
        if (atomic_load(&engine->open_run) == run)
            work(engine, helper->thread, NULL);
        atomic_fetch_sub(&engine->active_helpers, 1);
    }
    if (engine->isa == EA_AMX_INT8)
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

ea_engine *ea_open(int threads, int isa)
{
    ea_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return NULL;
    engine->threads = 1;
    engine->isa = isa;
    engine->compute = ea_compute_for(isa);
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

void ea_run(ea_engine *engine, const ea_op *ops, int count, double *us)
{
    if (count > engine->capacity) {
        free(engine->next_chunk);
        free(engine->chunks_left);
        engine->next_chunk = calloc((size_t)count * engine->threads, sizeof *engine->next_chunk);
        engine->chunks_left = calloc(count, sizeof *engine->chunks_left);
        engine->capacity = count;
    }
    engine->program = ops;
    engine->count = count;
    for (int index = 0; index < count; index++) {
        int chunks = ea_chunks(&ops[index]);
        for (int thread = 0; thread < engine->threads; thread++)
            atomic_store(&engine->next_chunk[index * engine->threads + thread],
                         (int)((int64_t)chunks * thread / engine->threads));
        atomic_store(&engine->chunks_left[index], chunks);
    }
    int run = atomic_load(&engine->run);
    run = run == INT32_MAX ? 1 : run + 1;
    atomic_store(&engine->open_run, run);
    start(engine, run);
    if (engine->isa == EA_AMX_INT8)
        ea_tiles_begin();
    work(engine, 0, us);
    if (engine->isa == EA_AMX_INT8)
        ea_tiles_end(); /* the caller's thread continues with other work */
    atomic_store(&engine->open_run, 0);
    while (atomic_load(&engine->active_helpers) > 0)
        ea_pause();
}

void ea_close(ea_engine *engine)
{
    start(engine, -1);
    for (int index = 1; index < engine->threads; index++)
        pthread_join(engine->helpers[index].id, NULL);
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->mutex);
    free(engine->helpers);
    free(engine->next_chunk);
    free(engine->chunks_left);
    free(engine);
}
