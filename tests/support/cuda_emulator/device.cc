/* The emulated GPUs, and errors. */
#include "runtime.h"

#include <pthread.h>

extern "C" {
__attribute__((visibility("default"))) struct lade_emulator_knobs lade_emulator = {
    .devices = 1,
    .driver = 13000,
    .major = 9,
    .minor = 0,
    .total = (size_t)4 << 30,
    .others = 0,
    .context = 100 << 20,
    .lost_after = 0,
    .eager = 0,
    .no_pages = 0,
    .no_blas = 0,
    .no_pinning = 0,
    .fail_blas = 0,
    .granule = 2 << 20,
    .fail_allocation = 0,
    .launches = 0,
    .copies = 0,
    .registered = 0,
    .allocations = 0,
    .device_allocations = 0,
    .pages = 0,
    .held_pages = 0,
    .page_bytes = 0,
    .products = 0,
};
}

std::recursive_mutex lade_emulator_lock;
static long calls;
static cudaError_t last_error;

static const struct {
    cudaError_t code;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
};

const char *cudaGetErrorName(cudaError_t e)
{
    for (auto &known : errors)
        if (known.code == e)
            return known.name;
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t e)
{
    for (auto &known : errors)
        if (known.code == e)
            return known.text;
    return "unknown error";
}

cudaError_t lade_emulator_error(cudaError_t e)
{
    last_error = e;
    return e;
}

static bool lost(void)
{
    return lade_emulator.lost_after && calls >= lade_emulator.lost_after;
}

static cudaError_t available(void)
{
    if (lade_emulator.driver < 13000)
        return lade_emulator_error(cudaErrorInsufficientDriver);
    if (lade_emulator.devices < 1)
        return lade_emulator_error(cudaErrorNoDevice);
    return cudaSuccess;
}

cudaError_t lade_emulator_call(void)
{
    calls = lade_emulator.lost_after ? calls + 1 : 0;
    if (lost())
        return lade_emulator_error(cudaErrorLaunchFailure);
    return available();
}

cudaError_t cudaGetLastError(void)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    cudaError_t e = last_error;
    last_error = lost() ? cudaErrorLaunchFailure : cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    return last_error;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = lade_emulator.driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

/* ---- devices ---- */

/* Which device a thread has set, plus one; no thread-local variable, because all of these are the
 * kernels' (fibers.cc). */
static pthread_key_t current;
static pthread_once_t current_once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
    if (pthread_key_create(&current, nullptr))
        lade_emulator_die("no thread key");
}

int lade_emulator_device(void)
{
    pthread_once(&current_once, make_key);
    long set = (long)(intptr_t)pthread_getspecific(current);
    return set ? (int)set - 1 : 0;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    *count = 0;
    cudaError_t e = available();
    if (!e)
        *count = lade_emulator.devices;
    return e;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = lade_emulator_device();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    cudaError_t e = lade_emulator_call();
    if (e)
        return e;
    if (device < 0 || device >= lade_emulator.devices)
        return lade_emulator_error(cudaErrorInvalidDevice);
    pthread_once(&current_once, make_key);
    pthread_setspecific(current, (void *)(intptr_t)(device + 1));
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned flags)
{
    (void)flags;
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    cudaError_t e = lade_emulator_call();
    if (e)
        return e;
    if (device < 0 || device >= lade_emulator.devices)
        return lade_emulator_error(cudaErrorInvalidDevice);
    *prop = cudaDeviceProp();
    snprintf(prop->name, sizeof prop->name, "emulated GPU %d", device);
    prop->totalGlobalMem = lade_emulator.total;
    prop->sharedMemPerBlock = 48 << 10;
    prop->sharedMemPerBlockOptin = (size_t)lade_emulator_shared_most();
    prop->sharedMemPerMultiprocessor = prop->sharedMemPerBlockOptin + 1024;
    prop->major = lade_emulator.major;
    prop->minor = lade_emulator.minor;
    prop->multiProcessorCount = 4;
    prop->l2CacheSize = 1 << 20;
    prop->memoryBusWidth = 64;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = 1024;
    prop->pciBusID = 1 + device;
    prop->unifiedAddressing = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    cudaDeviceProp prop;
    cudaError_t e = cudaGetDeviceProperties(&prop, device);
    if (e)
        return e;
    switch (attr) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)prop.sharedMemPerBlock;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = prop.multiProcessorCount;
        break;
    case cudaDevAttrMemoryClockRate:
        *value = 1000000;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = prop.memoryBusWidth;
        break;
    case cudaDevAttrL2CacheSize:
        *value = prop.l2CacheSize;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = prop.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = prop.minor;
        break;
    case cudaDevAttrCanUseHostPointerForRegisteredMem:
        *value = 0;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)prop.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)prop.sharedMemPerBlockOptin;
        break;
    default:
        return lade_emulator_error(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int len, int device)
{
    snprintf(id, (size_t)len, "0000:%02x:00.0", 1 + device);
    return cudaSuccess;
}
