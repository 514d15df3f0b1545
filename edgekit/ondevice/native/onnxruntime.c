/* ONNX Runtime. Its table of functions only grows, so a function's index is the same in every release; the indices used
 * are declared here, and tests/ondevice compares them with the real header. */
#include <dlfcn.h>

#include "engine.h"

typedef struct {
    const void *const *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} ApiBase;

/* the first release with all of these functions: 1.10 */
enum { ORT_VERSION = 10, ORT_ALLOCATOR_ARENA = 1, ORT_MEMORY_DEFAULT = 0, ORT_ENABLE_ALL = 99, ORT_LOG_ERROR = 3 };

enum {
    GetErrorMessage = 2,
    CreateEnv = 3,
    DisableTelemetryEvents = 6,
    CreateSession = 7,
    Run = 9,
    CreateSessionOptions = 10,
    SetSessionGraphOptimizationLevel = 23,
    SetIntraOpNumThreads = 24,
    SetInterOpNumThreads = 25,
    SessionGetInputCount = 30,
    SessionGetOutputCount = 31,
    SessionGetInputTypeInfo = 33,
    SessionGetOutputTypeInfo = 34,
    SessionGetInputName = 36,
    SessionGetOutputName = 37,
    CreateTensorWithDataAsOrtValue = 49,
    GetTensorMutableData = 51,
    CastTypeInfoToTensorInfo = 55,
    GetTensorElementType = 60,
    GetDimensionsCount = 61,
    GetDimensions = 62,
    GetTensorTypeAndShape = 65,
    CreateCpuMemoryInfo = 69,
    GetAllocatorWithDefaultOptions = 78,
    ReleaseValue = 96,
    ReleaseTensorTypeAndShapeInfo = 99,
};

/* every function returns NULL or a status; a call casts it to its signature */
#define ORT(place, ...) ((void *(*)(ORT_ARGUMENTS_##place))api[place])(__VA_ARGS__)
#define ORT_ARGUMENTS_CreateEnv int, const char *, void **
#define ORT_ARGUMENTS_DisableTelemetryEvents const void *
#define ORT_ARGUMENTS_CreateSession const void *, const char *, const void *, void **
#define ORT_ARGUMENTS_Run void *, const void *, const char *const *, const void *const *, size_t, const char *const *, size_t, void **
#define ORT_ARGUMENTS_CreateSessionOptions void **
#define ORT_ARGUMENTS_SetSessionGraphOptimizationLevel void *, int
#define ORT_ARGUMENTS_SetIntraOpNumThreads void *, int
#define ORT_ARGUMENTS_SetInterOpNumThreads void *, int
#define ORT_ARGUMENTS_SessionGetInputCount const void *, size_t *
#define ORT_ARGUMENTS_SessionGetOutputCount const void *, size_t *
#define ORT_ARGUMENTS_SessionGetInputTypeInfo const void *, size_t, void **
#define ORT_ARGUMENTS_SessionGetOutputTypeInfo const void *, size_t, void **
#define ORT_ARGUMENTS_SessionGetInputName const void *, size_t, void *, char **
#define ORT_ARGUMENTS_SessionGetOutputName const void *, size_t, void *, char **
#define ORT_ARGUMENTS_CreateTensorWithDataAsOrtValue const void *, void *, size_t, const int64_t *, size_t, int, void **
#define ORT_ARGUMENTS_GetTensorMutableData void *, void **
#define ORT_ARGUMENTS_CastTypeInfoToTensorInfo const void *, const void **
#define ORT_ARGUMENTS_GetTensorElementType const void *, int *
#define ORT_ARGUMENTS_GetDimensionsCount const void *, size_t *
#define ORT_ARGUMENTS_GetDimensions const void *, int64_t *, size_t
#define ORT_ARGUMENTS_GetTensorTypeAndShape const void *, void **
#define ORT_ARGUMENTS_CreateCpuMemoryInfo int, int, void **
#define ORT_ARGUMENTS_GetAllocatorWithDefaultOptions void **

static const void *const *api;
static void *session, *memory, *found[MOST];
static const char *in_names[MOST], *out_names[MOST];

static void check(void *status, const char *kind) {
    if (!status) return;
    const char *said = ((const char *(*)(const void *))api[GetErrorMessage])(status);
    refuse(strstr(said, "bad_alloc") || strstr(said, "Failed to allocate") ? "memory" : kind, "%s", said);
}

static Type ort_type(int type) {
    static const Type known[] = {T_NONE, T_F32, T_U8, T_I8, T_U16, T_I16, T_I32, T_I64, T_NONE, T_BOOL, T_F16, T_F64, T_U32, T_U64};
    return type >= 0 && type < 14 ? known[type] : T_NONE;
}

static int ort_code(Type type) {
    static const int codes[] = {9, 10, 1, 11, 3, 5, 6, 7, 2, 4, 12, 13};
    return codes[type];
}

static void shape_of(const void *info, Type *type, int *axes, int64_t *shape) {
    int code;
    size_t count;
    check(ORT(GetTensorElementType, info, &code), "run");
    check(ORT(GetDimensionsCount, info, &count), "run");
    if (count > MAX_AXES) refuse("model", "a tensor has more than %d axes", MAX_AXES);
    check(ORT(GetDimensions, info, shape, count), "run");
    *type = ort_type(code);
    *axes = (int)count;
}

static Spec spec_of(size_t index, int output, void *allocator) {
    Spec spec = {0};
    char *name;
    void *info;
    const void *tensor;
    if (output) {
        check(ORT(SessionGetOutputName, session, index, allocator, &name), "model");
        check(ORT(SessionGetOutputTypeInfo, session, index, &info), "model");
    } else {
        check(ORT(SessionGetInputName, session, index, allocator, &name), "model");
        check(ORT(SessionGetInputTypeInfo, session, index, &info), "model");
    }
    spec.name = name;
    check(ORT(CastTypeInfoToTensorInfo, info, &tensor), "model");
    if (!tensor) refuse("input", "%s is not a tensor", spec.name);
    shape_of(tensor, &spec.type, &spec.axes, spec.shape);
    if (spec.type == T_NONE) refuse(output ? "run" : "input", "%s is not a numeric tensor", spec.name);
    return spec;
}

static const char *open_(void *library, const char *version) {
    const ApiBase *(*base)(void);
    (void)version;
    *(void **)&base = dlsym(library, "OrtGetApiBase");
    if (!base) refuse("missing", "the library is not ONNX Runtime's");
    api = base()->GetApi(ORT_VERSION);
    if (!api) refuse("missing", "ONNX Runtime %s is too old", base()->GetVersionString());
    return base()->GetVersionString();
}

static void load(const char *path, int threads) {
    void *environment, *options, *allocator;
    check(ORT(CreateEnv, ORT_LOG_ERROR, "edgekit", &environment), "model");
    check(ORT(DisableTelemetryEvents, environment), "model");
    check(ORT(CreateSessionOptions, &options), "model");
    check(ORT(SetIntraOpNumThreads, options, threads), "model");
    check(ORT(SetInterOpNumThreads, options, 1), "model");
    check(ORT(SetSessionGraphOptimizationLevel, options, ORT_ENABLE_ALL), "model");
    check(ORT(CreateSession, environment, path, options, &session), "model");
    check(ORT(GetAllocatorWithDefaultOptions, &allocator), "model");
    check(ORT(CreateCpuMemoryInfo, ORT_ALLOCATOR_ARENA, ORT_MEMORY_DEFAULT, &memory), "model");
    check(ORT(SessionGetInputCount, session, &in_count), "model");
    check(ORT(SessionGetOutputCount, session, &out_count), "model");
    if (in_count > MOST || out_count > MOST) refuse("model", "it has more than %d inputs or outputs", MOST);
    for (size_t i = 0; i < in_count; i++) in_names[i] = (ins[i] = spec_of(i, 0, allocator)).name;
    for (size_t i = 0; i < out_count; i++) out_names[i] = (outs[i] = spec_of(i, 1, allocator)).name;
}

static void bind(Feed *feed) {
    for (size_t i = 0; i < in_count; i++)
        check(ORT(CreateTensorWithDataAsOrtValue, memory, feed->data[i], feed->bytes[i], feed->shape[i], (size_t)feed->axes[i],
                  ort_code(ins[i].type), &feed->values[i]),
              "run");
}

static void run(const Feed *feed) {
    memset(found, 0, out_count * sizeof *found);
    check(ORT(Run, session, NULL, in_names, (const void *const *)feed->values, in_count, out_names, out_count, found), "run");
}

static void output(size_t index, Output *out) {
    void *info, *data;
    check(ORT(GetTensorTypeAndShape, found[index], &info), "run");
    shape_of(info, &out->type, &out->axes, out->shape);
    ((void (*)(void *))api[ReleaseTensorTypeAndShapeInfo])(info);
    check(ORT(GetTensorMutableData, found[index], &data), "run");
    out->data = data;
}

static void done(void) {
    for (size_t i = 0; i < out_count; i++) ((void (*)(void *))api[ReleaseValue])(found[i]);
}

static void unbind(Feed *feed) {
    for (size_t i = 0; i < in_count; i++) ((void (*)(void *))api[ReleaseValue])(feed->values[i]);
}

const Engine onnxruntime = {"onnxruntime", ", \"provider\": \"CPUExecutionProvider\"", open_, load, bind, run, output, done, unbind};
