/* A CUDA driver with no GPU behind it, for cuda-bindings and pycuda to call: device memory is host memory, a context is
 * a thread's own or its calls are refused, streams do at once what they are asked to, and while one is recorded its
 * copies are kept for the graph. Only what our code calls; whatever else is asked for is not there.
 *
 * STUB_DRIVER_LOG: a file to which each call that makes, frees or records something writes its name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
enum { OK = 0, INVALID_VALUE = 1, INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
typedef unsigned long long Address;
typedef struct Copy { void *to; const void *from; size_t size; struct Copy *next; } Copy;
typedef struct Stream { int priority, recording, event_waits; Copy *first, *last; } Stream;
typedef struct Graph { Copy *first; } Graph;

static char context_of_gpu;                   /* its address is the primary context */
static __thread void *stack[16];
static __thread int depth;
static __thread Stream *recorded_here;

static void note(const char *what) {
    const char *path = getenv("STUB_DRIVER_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%s\n", what); fclose(file); }
}
#define NOTE() note(__func__)
#define NEED_CONTEXT() do { if (!depth || !stack[depth - 1]) return INVALID_CONTEXT; } while (0)

R cuInit(unsigned flags) { return OK; }
R cuDriverGetVersion(int *version) { *version = 13000; return OK; }
R cuDeviceGetCount(int *count) { *count = 1; return OK; }
R cuDeviceGet(int *device, int ordinal) { *device = 0; return OK; }
R cuDeviceGetAttribute(int *value, int which, int device) { *value = which == 75 ? 8 : 7; return OK; }
R cuDeviceComputeCapability(int *major, int *minor, int device) { *major = 8; *minor = 7; return OK; }
R cuDevicePrimaryCtxRetain(void **context, int device) { *context = &context_of_gpu; return OK; }
R cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
R cuCtxPushCurrent_v2(void *context) { stack[depth++] = context; return OK; }
R cuCtxPopCurrent_v2(void **context) { if (!depth) return INVALID_CONTEXT; *context = stack[--depth]; return OK; }
R cuCtxGetCurrent(void **context) { *context = depth ? stack[depth - 1] : NULL; return OK; }
R cuCtxSetCurrent(void *context) { if (depth) stack[depth - 1] = context; else stack[depth++] = context; return OK; }
R cuCtxGetDevice_v2(int *device, void *context) { *device = 0; return OK; }
R cuCtxGetDevice(int *device) { NEED_CONTEXT(); *device = 0; return OK; }
R cuCtxSynchronize(void) { NEED_CONTEXT(); return OK; }
R cuCtxGetStreamPriorityRange(int *least, int *greatest) { NEED_CONTEXT(); *least = 0; *greatest = -5; return OK; }
R cuMemAlloc_v2(Address *address, size_t size) {
    NEED_CONTEXT();
    if (recorded_here) return CAPTURE_UNSUPPORTED;
    *address = (Address)(uintptr_t)calloc(1, size);
    NOTE();
    return OK;
}
R cuMemFree_v2(Address address) { NEED_CONTEXT(); free((void *)(uintptr_t)address); NOTE(); return OK; }
R cuMemHostAlloc(void **address, size_t size, unsigned flags) { NEED_CONTEXT(); *address = calloc(1, size); NOTE(); return OK; }
R cuMemAllocHost_v2(void **address, size_t size) { return cuMemHostAlloc(address, size, 0); }
R cuMemFreeHost(void *address) { NEED_CONTEXT(); free(address); NOTE(); return OK; }
R cuStreamCreateWithPriority(Stream **stream, unsigned flags, int priority) {
    NEED_CONTEXT();
    *stream = calloc(1, sizeof(Stream));
    (*stream)->priority = priority;
    NOTE();
    return OK;
}
R cuStreamCreate(Stream **stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }
R cuStreamGetPriority(Stream *stream, int *priority) { *priority = stream->priority; return OK; }
R cuStreamDestroy_v2(Stream *stream) { NEED_CONTEXT(); free(stream); NOTE(); return OK; }
R cuStreamSynchronize(Stream *stream) { NEED_CONTEXT(); return stream->recording ? CAPTURE_UNSUPPORTED : OK; }
R cuStreamWaitEvent(Stream *stream, void *event, unsigned flags) { NEED_CONTEXT(); stream->event_waits++; NOTE(); return event ? OK : INVALID_VALUE; }
R cuEventCreate(void **event, unsigned flags) { NEED_CONTEXT(); *event = calloc(1, 1); NOTE(); return flags == 2 ? OK : INVALID_VALUE; }
R cuEventRecord(void *event, Stream *stream) { NEED_CONTEXT(); NOTE(); return event && stream ? OK : INVALID_VALUE; }
R cuEventSynchronize(void *event) { NEED_CONTEXT(); return event ? OK : INVALID_VALUE; }
R cuEventDestroy_v2(void *event) { NEED_CONTEXT(); free(event); NOTE(); return OK; }

static R copy(void *to, const void *from, size_t size, Stream *stream) {
    NEED_CONTEXT();
    if (!stream->recording) { memcpy(to, from, size); return OK; }
    Copy *one = calloc(1, sizeof(Copy));
    *one = (Copy){to, from, size, NULL};
    if (stream->last) stream->last->next = one; else stream->first = one;
    stream->last = one;
    return OK;
}
R cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t size, Stream *s) { return copy((void *)(uintptr_t)to, from, size, s); }
R cuMemcpyDtoDAsync_v2(Address to, Address from, size_t size, Stream *s) { NOTE(); return copy((void *)(uintptr_t)to, (void *)(uintptr_t)from, size, s); }
R cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, Stream *s) { return copy(to, (void *)(uintptr_t)from, size, s); }

R cuStreamBeginCapture_v2(Stream *stream, int mode) {
    NEED_CONTEXT();
    if (mode != 1) return INVALID_VALUE;       /* thread-local: another thread may allocate meanwhile */
    stream->recording = 1;
    stream->first = stream->last = NULL;
    recorded_here = stream;
    NOTE();
    return OK;
}
R cuStreamEndCapture(Stream *stream, Graph **graph) {
    NEED_CONTEXT();
    recorded_here = NULL;
    stream->recording = 0;
    *graph = NULL;
    if (!stream->first) return CAPTURE_INVALIDATED;
    *graph = calloc(1, sizeof(Graph));
    (*graph)->first = stream->first;
    NOTE();
    return OK;
}
R cuGraphInstantiateWithFlags(Graph **made, Graph *graph, unsigned long long flags) {
    NEED_CONTEXT();
    *made = calloc(1, sizeof(Graph));
    **made = *graph;
    NOTE();
    return OK;
}
R cuGraphLaunch(Graph *graph, Stream *stream) {
    NEED_CONTEXT();
    for (Copy *one = graph->first; one; one = one->next) memcpy(one->to, one->from, one->size);
    return OK;
}
R cuGraphDestroy(Graph *graph) { NEED_CONTEXT(); free(graph); NOTE(); return OK; }
R cuGraphExecDestroy(Graph *graph) { NEED_CONTEXT(); free(graph); NOTE(); return OK; }

R cuGetErrorName(R code, const char **name) { *name = "CUDA_ERROR_STUB"; return OK; }
R cuGetErrorString(R code, const char **text) { *text = "stub"; return OK; }

/* What pycuda is linked against beside that: it is there, and refuses. */
#define A(name) R name(void) { return NOT_SUPPORTED; }
A(cuArray3DCreate_v2) A(cuArray3DGetDescriptor_v2) A(cuArrayCreate_v2) A(cuArrayDestroy) A(cuArrayGetDescriptor_v2)
A(cuCtxAttach) A(cuCtxCreate_v4) A(cuCtxDetach) A(cuCtxDisablePeerAccess) A(cuCtxEnablePeerAccess)
A(cuCtxGetApiVersion) A(cuCtxGetCacheConfig) A(cuCtxGetLimit) A(cuCtxGetSharedMemConfig) A(cuCtxSetCacheConfig)
A(cuCtxSetLimit) A(cuCtxSetSharedMemConfig) A(cuDeviceCanAccessPeer) A(cuDeviceGetByPCIBusId) A(cuDeviceGetName)
A(cuDeviceGetPCIBusId) A(cuDeviceTotalMem_v2) A(cuEventElapsedTime_v2) A(cuEventQuery) A(cuFuncGetAttribute)
A(cuFuncSetAttribute) A(cuFuncSetBlockShape) A(cuFuncSetCacheConfig) A(cuFuncSetSharedSize) A(cuIpcCloseMemHandle)
A(cuIpcGetEventHandle) A(cuIpcGetMemHandle) A(cuIpcOpenEventHandle) A(cuIpcOpenMemHandle_v2) A(cuLaunch)
A(cuLaunchGrid) A(cuLaunchGridAsync) A(cuLaunchKernel) A(cuLinkAddData_v2) A(cuLinkAddFile_v2) A(cuLinkComplete)
A(cuLinkCreate_v2) A(cuLinkDestroy) A(cuMemAllocManaged) A(cuMemAllocPitch_v2) A(cuMemGetAddressRange_v2)
A(cuMemGetInfo_v2) A(cuMemHostGetDevicePointer_v2) A(cuMemHostGetFlags) A(cuMemHostRegister_v2) A(cuMemHostUnregister)
A(cuMemcpy2DAsync_v2) A(cuMemcpy2DUnaligned_v2) A(cuMemcpy2D_v2) A(cuMemcpy3DAsync_v2) A(cuMemcpy3DPeer)
A(cuMemcpy3DPeerAsync) A(cuMemcpy3D_v2) A(cuMemcpyAtoA_v2) A(cuMemcpyAtoD_v2) A(cuMemcpyAtoH_v2) A(cuMemcpyDtoA_v2)
A(cuMemcpyDtoD_v2) A(cuMemcpyDtoH_v2) A(cuMemcpyHtoA_v2) A(cuMemcpyHtoD_v2) A(cuMemcpyPeer)
A(cuMemcpyPeerAsync) A(cuMemsetD16Async) A(cuMemsetD16_v2) A(cuMemsetD2D16Async) A(cuMemsetD2D16_v2)
A(cuMemsetD2D32Async) A(cuMemsetD2D32_v2) A(cuMemsetD2D8Async) A(cuMemsetD2D8_v2) A(cuMemsetD32Async)
A(cuMemsetD32_v2) A(cuMemsetD8Async) A(cuMemsetD8_v2) A(cuModuleGetFunction) A(cuModuleGetGlobal_v2)
A(cuModuleGetSurfRef) A(cuModuleGetTexRef) A(cuModuleLoad) A(cuModuleLoadData) A(cuModuleLoadDataEx) A(cuModuleUnload)
A(cuParamSetSize) A(cuParamSetTexRef) A(cuParamSetf) A(cuParamSeti) A(cuParamSetv) A(cuProfilerInitialize)
A(cuProfilerStart) A(cuProfilerStop) A(cuStreamAttachMemAsync) A(cuStreamQuery) A(cuSurfRefGetArray)
A(cuSurfRefSetArray) A(cuTexRefCreate) A(cuTexRefDestroy) A(cuTexRefGetAddressMode) A(cuTexRefGetAddress_v2)
A(cuTexRefGetArray) A(cuTexRefGetFilterMode) A(cuTexRefGetFlags) A(cuTexRefGetFormat) A(cuTexRefSetAddress2D_v3)
A(cuTexRefSetAddressMode) A(cuTexRefSetAddress_v2) A(cuTexRefSetArray) A(cuTexRefSetFilterMode) A(cuTexRefSetFlags)
A(cuTexRefSetFormat)

R cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    const char *endings[] = {"_v2", "WithFlags", ""};
    char name[256];
    *function = NULL;
    for (int i = 0; i < 3 && !*function; i++) {
        snprintf(name, sizeof name, "%s%s", symbol, endings[i]);
        *function = dlsym(RTLD_DEFAULT, name);
        if (!*function) {
            void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
            *function = self ? dlsym(self, name) : NULL;
        }
    }
    if (status) *status = *function ? 0 : 1;
    return *function ? OK : NOT_FOUND;
}
R cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) { return cuGetProcAddress_v2(symbol, function, version, flags, NULL); }
