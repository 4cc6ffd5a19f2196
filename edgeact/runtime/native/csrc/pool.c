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
    atomic_int *next;      /* chunk to take next, one counter a step */
    atomic_int *left;      /* chunks of a step that are not done */
    int capacity;
    atomic_int sleeping;
    atomic_int at_work;    /* helpers that still look at the steps of this run */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_t *ids;
};

/* Take chunks of every step until there are none; a step begins when the one before is done. */
static void work(ea_engine *engine, double *us)
{
    struct timespec before, after;
    if (us)
        clock_gettime(CLOCK_MONOTONIC, &before);
    for (int index = 0; index < engine->count; index++) {
        const ea_step *step = &engine->steps[index];
        int chunks = ea_chunks(step), chunk;
        while ((chunk = atomic_fetch_add(&engine->next[index], 1)) < chunks) {
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
    ea_engine *engine = argument;
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
        work(engine, NULL);
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
    engine->ids = calloc(threads, sizeof *engine->ids);
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->wake, NULL);
    for (; engine->ids && engine->threads < threads; engine->threads++)
        if (pthread_create(&engine->ids[engine->threads], NULL, help, engine) != 0)
            break;
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
        engine->next = calloc(count, sizeof *engine->next);
        engine->left = calloc(count, sizeof *engine->left);
        engine->capacity = count;
    }
    engine->steps = steps;
    engine->count = count;
    for (int index = 0; index < count; index++) {
        atomic_store(&engine->next[index], 0);
        atomic_store(&engine->left[index], ea_chunks(&steps[index]));
    }
    atomic_store(&engine->at_work, engine->threads - 1);
    int run = atomic_load(&engine->run);
    start(engine, run == INT32_MAX ? 1 : run + 1);
    if (engine->instructions == EA_AMX)
        ea_tiles_begin();
    work(engine, us);
    if (engine->instructions == EA_AMX)
        ea_tiles_end(); /* the caller's thread goes on with other work */
    while (atomic_load_explicit(&engine->at_work, memory_order_acquire) > 0)
        _mm_pause();
}

void ea_close(ea_engine *engine)
{
    start(engine, -1);
    for (int index = 1; index < engine->threads; index++)
        pthread_join(engine->ids[index], NULL);
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->mutex);
    free(engine->ids);
    free(engine->next);
    free(engine->left);
    free(engine);
}
