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
    CreateTensorAsOrtValue = 48,
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
#define ORT_ARGUMENTS_CreateTensorAsOrtValue void *, const int64_t *, size_t, int, void **
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
/* in the arrays of all inputs or outputs, the states follow the others */
enum { ALL = MOST + MOST_STATES };
static void *session, *memory, *allocator, *found[ALL], *kept[MOST_STATES];
static const char *in_names[ALL], *out_names[ALL];
static Spec state_specs[MOST_STATES];

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

static Spec spec_of(size_t index, int output) {
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

/* Fills `specs` and `names`, whose last are the states'; returns how many are no states. */
static size_t read_specs(int output, Spec *specs, const char **names) {
    size_t total, count = 0, known = 0;
    check(output ? ORT(SessionGetOutputCount, session, &total) : ORT(SessionGetInputCount, session, &total), "model");
    for (size_t i = 0; i < total; i++) {
        Spec spec = spec_of(i, output);
        size_t at = 0;
        while (at < state_count && strcmp(spec.name, output ? states[at].out : states[at].in)) at++;
        if (at < state_count) {
            if (!output) state_specs[at] = spec;
            known++;
            continue;
        }
        if (count == MOST) refuse("model", "it has more than %d inputs or outputs", MOST);
        names[count] = spec.name;
        specs[count++] = spec;
    }
    if (known != state_count) refuse("model", "an %s of its %zu states is missing", output ? "output" : "input", state_count);
    for (size_t at = 0; at < state_count; at++) names[count + at] = output ? states[at].out : states[at].in;
    return count;
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
    void *environment, *options;
    check(ORT(CreateEnv, ORT_LOG_ERROR, "edgekit", &environment), "model");
    check(ORT(DisableTelemetryEvents, environment), "model");
    check(ORT(CreateSessionOptions, &options), "model");
    check(ORT(SetIntraOpNumThreads, options, threads), "model");
    check(ORT(SetInterOpNumThreads, options, 1), "model");
    check(ORT(SetSessionGraphOptimizationLevel, options, ORT_ENABLE_ALL), "model");
    check(ORT(CreateSession, environment, path, options, &session), "model");
    check(ORT(GetAllocatorWithDefaultOptions, &allocator), "model");
    check(ORT(CreateCpuMemoryInfo, ORT_ALLOCATOR_ARENA, ORT_MEMORY_DEFAULT, &memory), "model");
    in_count = read_specs(0, ins, in_names);
    out_count = read_specs(1, outs, out_names);
}

static void bind(Feed *feed) {
    for (size_t i = 0; i < in_count; i++)
        check(ORT(CreateTensorWithDataAsOrtValue, memory, feed->data[i], feed->bytes[i], feed->shape[i], (size_t)feed->axes[i],
                  ort_code(ins[i].type), &feed->values[i]),
              "run");
}

static void release(void *value) { ((void (*)(void *))api[ReleaseValue])(value); }

/* Zeros for so many samples, with open axes of length 0. */
static void *empty(const Spec *spec, int64_t batch) {
    void *value, *data;
    int64_t shape[MAX_AXES];
    for (int axis = 0; axis < spec->axes; axis++) shape[axis] = !axis ? batch : spec->shape[axis] < 0 ? 0 : spec->shape[axis];
    check(ORT(CreateTensorAsOrtValue, allocator, shape, (size_t)spec->axes, ort_code(spec->type), &value), "run");
    check(ORT(GetTensorMutableData, value, &data), "run");
    size_t bytes = (size_t)elements(shape, spec->axes) * TYPES[spec->type].width;
    if (bytes) memset(data, 0, bytes);
    return value;
}

/* The states stay ONNX Runtime's own values: what a run returned is given to the next one. */
static void run(const Feed *feed, int fresh) {
    const void *given[ALL];
    memset(found, 0, (out_count + state_count) * sizeof *found);
    memcpy(given, feed->values, in_count * sizeof *given);
    for (size_t i = 0; i < state_count; i++) {
        if (fresh) {
            release(kept[i]);
            kept[i] = empty(&state_specs[i], feed->shape[0][0]);
        }
        given[in_count + i] = kept[i];
    }
    check(ORT(Run, session, NULL, in_names, given, in_count + state_count, out_names, out_count + state_count, found), "run");
    for (size_t i = 0; i < state_count; i++) {
        release(kept[i]);
        kept[i] = found[out_count + i];
    }
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
    for (size_t i = 0; i < out_count; i++) release(found[i]);
}

static void unbind(Feed *feed) {
    for (size_t i = 0; i < in_count; i++) release(feed->values[i]);
}

const Engine onnxruntime = {"onnxruntime", ", \"provider\": \"CPUExecutionProvider\"", open_, load, bind, run, output, done, unbind};
