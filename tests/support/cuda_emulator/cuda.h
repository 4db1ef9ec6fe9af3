/* cuda.h - the driver's virtual memory management: pages of memory (cuMemCreate), runs of addresses
 * (cuMemAddressReserve), and the one under the other (cuMemMap). What kernels/cuda/pages.cu uses. */
#ifndef LADE_EMULATOR_CUDA_H
#define LADE_EMULATOR_CUDA_H

#include "cuda_runtime.h"

typedef unsigned long long CUdeviceptr, CUmemGenericAllocationHandle;

enum [[nodiscard]] CUresult : int{
    /* any number may come */
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
};
enum CUmemAllocationType { CU_MEM_ALLOCATION_TYPE_PINNED = 1 };
enum CUmemLocationType { CU_MEM_LOCATION_TYPE_DEVICE = 1 };
enum CUmemAccess_flags { CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3 };
enum CUmemAllocationGranularity_flags { CU_MEM_ALLOC_GRANULARITY_MINIMUM = 0 };

struct CUmemLocation {
    CUmemLocationType type;
    int id;
};
struct CUmemAllocationProp {
    CUmemAllocationType type;
    CUmemLocation location;
};
struct CUmemAccessDesc {
    CUmemLocation location;
    CUmemAccess_flags flags;
};

#endif
