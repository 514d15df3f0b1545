/* One inference with ONNX Runtime's C API: ./example [--values] [MODEL] INPUT
 *
 * INPUT: an image (.ppm or .pgm, 8 bits), which image.h makes the model's input from; any other file holds the raw
 * values of the model's first input, in its own type, one sample (numpy: array.tofile), and dynamic axes are set to 1.
 * Prints the best classes of an image; otherwise, or with --values, the first output, one value per line.
 * MODEL is model/model.onnx if it is left out. See README.md for how to build it.
 */
#include <onnxruntime_c_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "image.h"

static const OrtApi *api;

static void check(OrtStatus *status) {
    if (!status) return;
    fprintf(stderr, "example: %s\n", api->GetErrorMessage(status));
    exit(1);
}

static size_t width(ONNXTensorElementDataType type) {
    switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16: return 2;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64: return 8;
    default: return 4;
    }
}

/* The image as a tensor of this type, in a batch of `bytes` that repeats it. */
static void *image_data(const char *path, const PreImage *sized, ONNXTensorElementDataType type, size_t bytes) {
    float *values = image_values(sized);
    size_t size = pre_size(sized);
    if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8)
        fail(path, "the model's input is neither float32 nor uint8");
    if (bytes % (size * width(type))) fail(path, "it does not get the size of the model's input");
    char *data = malloc(bytes);
    if (!data) fail(path, "out of memory");
    for (size_t i = 0; i < bytes / width(type); i++) {
        float value = values[i % size];
        if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) ((float *)(void *)data)[i] = value;
        else if (value >= 0 && value <= 255 && value == rintf(value)) ((uint8_t *)data)[i] = (uint8_t)value;
        else fail(path, "the model takes uint8, and its preprocessing makes other values");
    }
    free(values);
    return data;
}

static void *raw_data(const char *path, size_t bytes) {
    void *data = malloc(bytes);
    FILE *file = fopen(path, "rb");
    if (!data || !file || fread(data, 1, bytes, file) != bytes) {
        fprintf(stderr, "example: %s must hold %zu bytes\n", path, bytes);
        exit(2);
    }
    fclose(file);
    return data;
}

int main(int count, char **words) {
    int only_values = count > 1 && !strcmp(words[1], "--values"), given = count - only_values;
    if (given != 2 && given != 3) {
        fprintf(stderr, "usage: %s [--values] [MODEL] INPUT.ppm|INPUT.bin\n", words[0]);
        return 2;
    }
    const char *model = given == 3 ? words[count - 2] : "model/model.onnx", *path = words[count - 1];
    api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!api) {
        fprintf(stderr, "example: the library is older than the header\n");
        return 1;
    }
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtAllocator *allocator;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "example", &env));
    check(api->CreateSessionOptions(&options));
    check(api->SetIntraOpNumThreads(options, 1));
    check(api->CreateSession(env, model, options, &session));
    check(api->GetAllocatorWithDefaultOptions(&allocator));

    char *input_name, *output_name;
    check(api->SessionGetInputName(session, 0, allocator, &input_name));
    check(api->SessionGetOutputName(session, 0, allocator, &output_name));
    OrtTypeInfo *info;
    const OrtTensorTypeAndShapeInfo *tensor;
    ONNXTensorElementDataType type;
    size_t axes;
    check(api->SessionGetInputTypeInfo(session, 0, &info));
    check(api->CastTypeInfoToTensorInfo(info, &tensor));
    check(api->GetTensorElementType(tensor, &type));
    check(api->GetDimensionsCount(tensor, &axes));
    int64_t *shape = calloc(axes + 1, sizeof *shape);
    check(api->GetDimensions(tensor, shape, axes));
    size_t bytes = width(type);
    PreImage sized = {0};
    if (is_image(path)) sized = image_read(path);
    for (size_t i = 0; i < axes; i++) {
        if (shape[i] < 1) shape[i] = sized.pixels ? image_axis(&sized, i) : 1;
        bytes *= (size_t)shape[i];
    }
    void *data = sized.pixels ? image_data(path, &sized, type, bytes) : raw_data(path, bytes);

    OrtMemoryInfo *memory;
    OrtValue *input = NULL, *output = NULL;
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(api->CreateTensorWithDataAsOrtValue(memory, data, bytes, shape, axes, type, &input));
    const char *in[] = {input_name}, *out[] = {output_name};
    check(api->Run(session, NULL, in, (const OrtValue *const *)&input, 1, out, 1, &output));

    OrtTensorTypeAndShapeInfo *result;
    ONNXTensorElementDataType result_type;
    size_t values, result_axes;
    int64_t sizes[2];
    void *found;
    check(api->GetTensorTypeAndShape(output, &result));
    check(api->GetTensorElementType(result, &result_type));
    check(api->GetTensorShapeElementCount(result, &values));
    check(api->GetTensorMutableData(output, &found));
    check(api->GetDimensionsCount(result, &result_axes));
    int scores = sized.pixels && !only_values && CLASS_COUNT && result_axes == 2;
    if (scores && result_type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
        check(api->GetDimensions(result, sizes, 2));
        if (sizes[1] > 1) return print_classes(path, found, (size_t)sizes[1]), 0;
    }
    for (size_t i = 0; i < values; i++) {
        switch (result_type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: printf("%.9g\n", ((float *)found)[i]); break;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: printf("%lld\n", (long long)((int64_t *)found)[i]); break;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: printf("%d\n", ((int8_t *)found)[i]); break;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: printf("%d\n", ((uint8_t *)found)[i]); break;
        default: fprintf(stderr, "example: outputs of type %d are not printed\n", result_type); return 1;
        }
    }
    return 0;
}
