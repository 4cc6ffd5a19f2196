/* What this processor can do, and the compiled form of the engine for it. */
#include "engine.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Compiled for plain x86-64: it runs before the instruction sets of the processor are known. */
#define BEFORE_CHECK __attribute__((target("arch=x86-64")))

BEFORE_CHECK int ea_version(void) { return EA_VERSION; }

/* Whether the kernel lets this process use AMX tiles; it asks for that. */
BEFORE_CHECK static int may_use_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

BEFORE_CHECK int ea_isas(void)
{
    enum { OSXSAVE = 1 << 27, FMA = 1 << 12, F16C = 1 << 29, AVX2_AND_BMI = 1 << 3 | 1 << 5 | 1 << 8 };
    enum { AVX_STATE = 0x6, AVX512_STATE = 0xe6, TILE_STATE = 0x60000 };
    enum { VNNI = 1 << 11, AMX = 3 << 24, AVX_VNNI = 1 << 4 };
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31; /* F, DQ, CD, BW, VL */
    unsigned eax, ebx, ecx, edx, low, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & OSXSAVE) || !(ecx & FMA) || !(ecx & F16C))
        return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & AVX_STATE) != AVX_STATE || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) ||
        (ebx & AVX2_AND_BMI) != AVX2_AND_BMI)
        return 0;
    int isas = 1 << EA_AVX2;
    if ((low & AVX512_STATE) == AVX512_STATE && (ebx & avx512) == avx512 && (ecx & VNNI)) {
        isas |= 1 << EA_AVX512_VNNI;
        if ((low & TILE_STATE) == TILE_STATE && (edx & AMX) == AMX && may_use_tiles())
            isas |= 1 << EA_AMX_INT8;
    }
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & AVX_VNNI))
        isas |= 1 << EA_AVX_VNNI;
    return isas;
}

ea_compute ea_do_avx512;

ea_compute *ea_compute_for(int isa) { return isa == EA_AVX512_VNNI || isa == EA_AMX_INT8 ? ea_do_avx512 : ea_do; }
