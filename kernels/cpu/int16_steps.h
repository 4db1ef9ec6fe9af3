/* int16_steps.h - products by instructions that stay in the order they are written in, with operands in
 * memory; included by int16_impl.h for AVX-512.
 *
 * gcc, left alone, moves loads far ahead of products and then spills, puts products of one kind beside
 * each other, and gives a broadcast an instruction of its own. Each step is one statement of assembly or some. */

/* An operand in memory, and its name. gcc takes such for uses of all memory and stores what could stay in
 * registers, so it gets the address; nothing writes here what these read. Clang knows no operand like that. */
#if defined(__clang__)
#define MEMORY(x)       "m"(x)
#define OF_MEMORY(name) "%[" #name "]"
#else
#define MEMORY(x)       "p"(&(x))
#define OF_MEMORY(name) "%a[" #name "]"
#endif

ALWAYS_INLINE vu step_broadcast(const int32_t *x)
{
    vu r;
    __asm__ volatile("vpbroadcastd " OF_MEMORY(x) ", %0" : "=v"(r) : [x] MEMORY(*x));
    return r;
}

/* acc + codes of one vector times their four inputs, as dot4(). */
ALWAYS_INLINE vi step_bytes(vi acc, vu codes, const int32_t *x)
{
    __asm__ volatile("vpdpbusd " OF_MEMORY(x) "%{1to16%}, %1, %0"
                     : "+v"(acc)
                     : "v"(codes), [x] MEMORY(*x));
    return acc;
}

/* acc + codes of one vector times their two inputs. */
ALWAYS_INLINE vi step_plain(vi acc, vu codes, const int32_t *x)
{
    __asm__ volatile("vpdpwssd " OF_MEMORY(x) "%{1to16%}, %1, %0"
                     : "+v"(acc)
                     : "v"(codes), [x] MEMORY(*x));
    return acc;
}

/* acc_times(). */
ALWAYS_INLINE vi step_pair(vi acc, const vu codes[2], vu first, vu second)
{
    vu a, b;
    __asm__ volatile("vpaddw %1, %2, %0" : "=v"(a) : "v"(codes[0]), "v"(second));
    __asm__ volatile("vpaddw %1, %2, %0" : "=v"(b) : "v"(codes[1]), "v"(first));
    __asm__ volatile("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}
