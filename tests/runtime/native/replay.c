/* Run recorded programs (recording.py) on this machine or its emulation, and compare all memory bit by bit.
 *
 * Arguments: an instruction set (a number as EA_NEON of engine.h), then files. A file is a header, the memory before the run and
 * the memory after it; the memory is mapped at the address where it was recorded, so every pointer in it is valid. */
#define _GNU_SOURCE
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct {
    uint64_t address, bytes, ops;
    int32_t count, threads;
} header;

/* Returns NULL, or what is wrong. */
static const char *replay(FILE *file, int isa)
{
    header recorded;
    if (fread(&recorded, sizeof recorded, 1, file) != 1)
        return "is no recording";
    uint8_t *expected = malloc(recorded.bytes);
    uint8_t *memory = mmap((void *)recorded.address, recorded.bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (!expected || (uint64_t)memory != recorded.address)
        return "does not find its memory free";
    if (fread(memory, 1, recorded.bytes, file) != recorded.bytes ||
        fread(expected, 1, recorded.bytes, file) != recorded.bytes)
        return "ends early";
    ea_engine *engine = ea_open(recorded.threads, isa);
    if (!engine)
        return "gets no threads";
    ea_run(engine, (const ea_op *)recorded.ops, recorded.count, NULL);
    ea_close(engine);
    int same = memcmp(memory, expected, recorded.bytes) == 0;
    munmap(memory, recorded.bytes);
    free(expected);
    return same ? NULL : "differs";
}

int main(int argc, char **argv)
{
    int isa = argc > 1 ? atoi(argv[1]) : 0, failures = 0;
    if (isa < EA_NEON || isa > EA_NEON_I8MM || !(ea_isas() >> isa & 1)) {
        fprintf(stderr, "replay: instruction set %d is not here; the bits of those here are %#x\n", isa, ea_isas());
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        const char *wrong = file ? replay(file, isa) : "cannot be opened";
        if (file)
            fclose(file);
        if (wrong)
            printf("%s %s\n", argv[i], wrong);
        failures += wrong != NULL;
    }
    printf("replay: instruction set %d: %d of %d recordings are bit-identical\n", isa, argc - 2 - failures, argc - 2);
    return failures != 0;
}
