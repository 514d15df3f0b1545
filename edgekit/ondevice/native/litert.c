/* LiteRT on the CPU, through the C API of its compiled models. The functions used are declared as in the headers of
 * LiteRT 2.2 (litert/c); earlier versions load a model in another way. */
#include <dlfcn.h>
#include <math.h>

#include "engine.h"

enum { RANK = 8, CPU = 1, READ = 0, WRITE = 1, PER_TENSOR = 1, OUT_OF_MEMORY = 2 };

typedef struct { /* LiteRtLayout */
    unsigned rank : 7, has_strides : 1;
    int32_t dimensions[RANK];
    uint32_t strides[RANK];
} Layout;

typedef struct { /* LiteRtRankedTensorType */
    int element_type;
    Layout layout;
} Tensor;

typedef struct { /* LiteRtQuantizationPerTensor */
    float scale;
    int64_t zero_point;
} Quantization;

_Static_assert(sizeof(Tensor) == 72, "LiteRT's own assertion");

/* every function used: X(local name, LiteRt's name without its prefix, arguments) */
#define FUNCTIONS(X)                                                                     \
    X(new_environment, CreateEnvironment, (int, const void *, void **))                  \
    X(new_options, CreateOptions, (void **))                                             \
    X(set_hardware, SetOptionsHardwareAccelerators, (void *, int))                       \
    X(new_opaque, CreateOpaqueOptions, (const char *, void *, void (*)(void *), void **)) \
    X(add_opaque, AddOpaqueOptions, (void *, void *))                                    \
    X(new_model, CreateModelFromFile, (void *, const char *, void **))                   \
    X(compile, CreateCompiledModel, (void *, void *, void *, void **))                   \
    X(signature, GetModelSignature, (void *, size_t, void **))                           \
    X(subgraph, GetSignatureSubgraph, (void *, void **))                                 \
    X(count_inputs, GetNumSubgraphInputs, (void *, size_t *))                            \
    X(count_outputs, GetNumSubgraphOutputs, (void *, size_t *))                          \
    X(graph_input, GetSubgraphInput, (void *, size_t, void **))                          \
    X(graph_output, GetSubgraphOutput, (void *, size_t, void **))                        \
    X(signed_input, GetSignatureInputTensorByIndex, (void *, size_t, void **))           \
    X(signed_output, GetSignatureOutputTensorByIndex, (void *, size_t, void **))         \
    X(tensor_name, GetTensorName, (void *, const char **))                               \
    X(tensor_type, GetRankedTensorType, (void *, Tensor *))                              \
    X(quantization_kind, GetQuantizationTypeId, (void *, int *))                         \
    X(quantization, GetPerTensorQuantization, (void *, Quantization *))                  \
    X(resize, CompiledModelResizeInputTensor, (void *, size_t, size_t, const int *, size_t)) \
    X(input_needs, GetCompiledModelInputBufferRequirements, (void *, size_t, size_t, void **)) \
    X(output_needs, GetCompiledModelOutputBufferRequirements, (void *, size_t, size_t, void **)) \
    X(output_layouts, GetCompiledModelOutputTensorLayouts, (void *, size_t, size_t, Layout *, _Bool)) \
    X(new_buffer, CreateManagedTensorBufferFromRequirements, (void *, const Tensor *, void *, void **)) \
    X(lock, LockTensorBuffer, (void *, void **, int))                                    \
    X(unlock, UnlockTensorBuffer, (void *))                                              \
    X(run_model, RunCompiledModel, (void *, size_t, size_t, void **, size_t, void **))

#define DECLARE(name, real, arguments) static int(*name) arguments;
FUNCTIONS(DECLARE)

static void (*free_buffer)(void *);
static const char *(*status_text)(int);
static void *environment, *compiled;
static size_t in_place[MOST], out_place[MOST]; /* the signature's index of each input and output of the graph */
static Tensor in_types[MOST], out_types[MOST];
static int64_t sizes[MOST][RANK]; /* of the inputs, for which buffers are allocated */
static void *results[MOST];
static int ready;

static void check(int status, const char *kind, const char *what) {
    if (!status) return;
    refuse(status == OUT_OF_MEMORY ? "memory" : kind, "LiteRT: %s: %s", what, status_text ? status_text(status) : "");
}

static Type type_of(int code) {
    static const Type known[] = {T_NONE, T_F32, T_I32, T_U8,  T_I64, T_NONE, T_BOOL, T_I16,  T_NONE,
                                 T_I8,   T_F16, T_F64, T_NONE, T_U64, T_NONE, T_NONE, T_U32, T_U16};
    return code >= 0 && code < (int)(sizeof known / sizeof *known) ? known[code] : T_NONE;
}

static const char *open_(void *library, const char *version) {
#define LOAD(name, real, arguments)                                                      \
    *(void **)&name = dlsym(library, "LiteRt" #real);                                    \
    if (!name) refuse("missing", "the library has no LiteRt" #real ": it is not LiteRT's, or older than 2.2");
    FUNCTIONS(LOAD)
    *(void **)&free_buffer = dlsym(library, "LiteRtDestroyTensorBuffer");
    *(void **)&status_text = dlsym(library, "LiteRtGetStatusString");
    return version;
}

static Spec spec_of(void *tensor, Tensor *type) {
    Spec spec = {0};
    int kind;
    Quantization stored;
    check(tensor_name(tensor, &spec.name), "model", "a tensor's name");
    check(tensor_type(tensor, type), "model", spec.name);
    spec.type = type_of(type->element_type);
    if (spec.type == T_NONE) refuse("input", "%s is not a numeric tensor", spec.name);
    spec.axes = type->layout.rank;
    if (spec.axes > RANK) refuse("model", "%s has more than %d axes", spec.name, RANK);
    for (int axis = 0; axis < spec.axes; axis++) spec.shape[axis] = type->layout.dimensions[axis];
    check(quantization_kind(tensor, &kind), "model", spec.name);
    if (kind == PER_TENSOR && spec.type >= T_I8) {
        check(quantization(tensor, &stored), "model", spec.name);
        spec.scale = stored.scale;
        spec.zero = stored.zero_point;
    }
    return spec;
}

/* The index of a graph's tensor in the signature, whose order differs. */
static size_t place_of(void *wanted, size_t count, void *signed_, int (*at)(void *, size_t, void **)) {
    void *tensor;
    for (size_t i = 0; i < count; i++)
        if (!at(signed_, i, &tensor) && tensor == wanted) return i;
    refuse("model", "its signature lacks a tensor of its graph");
}

static void load(const char *path, int threads) {
    if (state_count) refuse("model", "a device without Python keeps a model's states in ONNX Runtime only");
    void *options, *opaque, *model, *signed_, *graph, *tensor;
    char *settings = room(64); /* TOML, in the format of litert/c/options/litert_cpu_options */
    snprintf(settings, 64, "num_threads = %d\n", threads);
    check(new_environment(0, NULL, &environment), "model", "no environment");
    check(new_options(&options), "model", "no options");
    check(set_hardware(options, CPU), "model", "no CPU");
    check(new_opaque("xnnpack", settings, free, &opaque), "model", "no options");
    check(add_opaque(options, opaque), "model", "no options");
    check(new_model(environment, path, &model), "model", "the file cannot be read");
    check(compile(environment, model, options, &compiled), "model", "the model cannot be made ready");
    check(signature(model, 0, &signed_), "model", "it has no signature");
    check(subgraph(signed_, &graph), "model", "it has no graph");
    check(count_inputs(graph, &in_count), "model", "its inputs");
    check(count_outputs(graph, &out_count), "model", "its outputs");
    if (in_count > MOST || out_count > MOST) refuse("model", "it has more than %d inputs or outputs", MOST);
    for (size_t i = 0; i < in_count; i++) {
        check(graph_input(graph, i, &tensor), "model", "an input");
        ins[i] = spec_of(tensor, &in_types[i]);
        in_place[i] = place_of(tensor, in_count, signed_, signed_input);
        for (int axis = 0; axis < ins[i].axes; axis++) sizes[i][axis] = ins[i].shape[axis];
    }
    for (size_t i = 0; i < out_count; i++) {
        check(graph_output(graph, i, &tensor), "model", "an output");
        outs[i] = spec_of(tensor, &out_types[i]);
        out_place[i] = place_of(tensor, out_count, signed_, signed_output);
    }
}

/* Prepare the model for a batch: resize its dynamic axes and allocate the outputs. */
static void prepare(const Feed *feed) {
    int changed = !ready, given[RANK];
    for (size_t i = 0; i < in_count; i++) {
        if (!memcmp(sizes[i], feed->shape[i], (size_t)feed->axes[i] * sizeof **sizes)) continue;
        changed = 1;
        for (int axis = 0; axis < feed->axes[i]; axis++) {
            given[axis] = (int)feed->shape[i][axis];
            sizes[i][axis] = feed->shape[i][axis];
            in_types[i].layout.dimensions[axis] = given[axis];
        }
        check(resize(compiled, 0, in_place[i], given, (size_t)feed->axes[i]), "run", "it does not take so many at once");
    }
    if (!changed) return;
    Layout layouts[MOST];
    void *needs;
    check(output_layouts(compiled, 0, out_count, layouts, 1), "run", "its outputs");
    for (size_t i = 0; i < out_count; i++) {
        if (results[out_place[i]]) free_buffer(results[out_place[i]]);
        Tensor type = {out_types[i].element_type, layouts[out_place[i]]};
        out_types[i] = type;
        check(output_needs(compiled, 0, out_place[i], &needs), "run", outs[i].name);
        check(new_buffer(environment, &type, needs, &results[out_place[i]]), "run", outs[i].name);
    }
    ready = 1;
}

static void bind(Feed *feed) {
    void *needs, *at;
    prepare(feed);
    for (size_t i = 0; i < in_count; i++) {
        check(input_needs(compiled, 0, in_place[i], &needs), "run", ins[i].name);
        check(new_buffer(environment, &in_types[i], needs, &feed->values[in_place[i]]), "run", ins[i].name);
        check(lock(feed->values[in_place[i]], &at, WRITE), "run", ins[i].name);
        memcpy(at, feed->data[i], feed->bytes[i]);
        check(unlock(feed->values[in_place[i]]), "run", ins[i].name);
    }
}

static void run(const Feed *feed, int fresh) {
    (void)fresh;
    prepare(feed);
    check(run_model(compiled, 0, in_count, (void **)feed->values, out_count, results), "run", "the inference failed");
}

static void output(size_t index, Output *out) {
    void *at;
    out->type = outs[index].type;
    out->axes = out_types[index].layout.rank;
    for (int axis = 0; axis < out->axes; axis++) out->shape[axis] = out_types[index].layout.dimensions[axis];
    check(lock(results[out_place[index]], &at, READ), "run", outs[index].name);
    check(unlock(results[out_place[index]]), "run", outs[index].name);
    out->data = at;
}

static void done(void) {}

static void unbind(Feed *feed) {
    for (size_t i = 0; i < in_count; i++) free_buffer(feed->values[i]);
}

const Engine litert = {"litert", ", \"implementation\": \"compiled model\"", open_, load, bind, run, output, done, unbind};
