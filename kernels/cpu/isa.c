#include <stdio.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/planes.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static bool has_portable(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    /* clang knows no name for F16C; that the system saves AVX registers is checked with avx2. */
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avxvnni(void)
{
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
static bool has_neon(void)
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; /* products of bytes; the rest always is there */
}
#endif

/* Best first. */
static const struct {
    const struct cpu_isa *isa;
    bool (*usable)(void);
} table[] = {
#if defined(__x86_64__)
    {&cpu_isa_avx512, has_avx512},
    {&cpu_isa_avxvnni, has_avxvnni},
    {&cpu_isa_avx2, has_avx2},
#elif defined(__aarch64__)
    {&cpu_isa_neon, has_neon},
#endif
    {&cpu_isa_portable, has_portable},
};

const struct cpu_isa *cpu_isa_find(const char *name, char *err)
{
    cpu_planes_make();
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (name && strcmp(name, table[i].isa->name))
            continue;
        if (table[i].usable())
            return table[i].isa;
        if (name) {
            lade_fail(err, "cpu: %s: this machine has no %s; leave the choice to lade", name,
                      table[i].isa->title);
            return NULL;
        }
    }
    char names[64] = "";
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].usable())
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                     *names ? " or " : "", table[i].isa->name);
    lade_fail(err, "cpu: no instruction set '%s' here; use %s", name, names);
    return NULL;
}
