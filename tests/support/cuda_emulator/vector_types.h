/* vector_types.h - CUDA's short vectors, with its sizes and alignments. */
#ifndef LADE_EMULATOR_VECTOR_TYPES_H
#define LADE_EMULATOR_VECTOR_TYPES_H

#define LADE_VECTORS(T, name, a2, a4)                                                              \
    struct name##1                                                                                 \
    {                                                                                              \
        T x;                                                                                       \
    };                                                                                             \
    struct __attribute__((aligned(a2))) name##2                                                    \
    {                                                                                              \
        T x, y;                                                                                    \
    };                                                                                             \
    struct name##3                                                                                 \
    {                                                                                              \
        T x, y, z;                                                                                 \
    };                                                                                             \
    struct __attribute__((aligned(a4))) name##4                                                    \
    {                                                                                              \
        T x, y, z, w;                                                                              \
    };                                                                                             \
    static inline name##2 make_##name##2(T x, T y)                                                 \
    {                                                                                              \
        return name##2 {x, y};                                                                     \
    }                                                                                              \
    static inline name##3 make_##name##3(T x, T y, T z)                                            \
    {                                                                                              \
        return name##3 {x, y, z};                                                                  \
    }                                                                                              \
    static inline name##4 make_##name##4(T x, T y, T z, T w)                                       \
    {                                                                                              \
        return name##4 {x, y, z, w};                                                               \
    }

LADE_VECTORS(signed char, char, 2, 4)
LADE_VECTORS(unsigned char, uchar, 2, 4)
LADE_VECTORS(short, short, 4, 8)
LADE_VECTORS(unsigned short, ushort, 4, 8)
LADE_VECTORS(int, int, 8, 16)
LADE_VECTORS(unsigned, uint, 8, 16)
LADE_VECTORS(long long, longlong, 16, 16)
LADE_VECTORS(unsigned long long, ulonglong, 16, 16)
LADE_VECTORS(float, float, 8, 16)
LADE_VECTORS(double, double, 16, 16)
#undef LADE_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
    operator uint3() const
    {
        return uint3{x, y, z};
    }
};

#endif
