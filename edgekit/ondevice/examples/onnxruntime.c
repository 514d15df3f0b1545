/* One inference with ONNX Runtime's C API: ./example model/model.onnx input.bin
 *
 * input.bin holds the raw values of the model's first input, in its own type, one sample (numpy: array.tofile).
 * Dynamic axes are set to 1. Prints the first output, one value per line. See README.md for how to build it.
 */
#include <onnxruntime_c_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

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

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: %s MODEL INPUT\n", words[0]);
        return 2;
    }
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
    check(api->CreateSession(env, words[1], options, &session));
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
    for (size_t i = 0; i < axes; i++) {
        if (shape[i] < 1) shape[i] = 1;
        bytes *= (size_t)shape[i];
    }

    void *data = malloc(bytes);
    FILE *file = fopen(words[2], "rb");
    if (!file || fread(data, 1, bytes, file) != bytes) {
        fprintf(stderr, "example: %s must hold %zu bytes\n", words[2], bytes);
        return 2;
    }
    fclose(file);

    OrtMemoryInfo *memory;
    OrtValue *input = NULL, *output = NULL;
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(api->CreateTensorWithDataAsOrtValue(memory, data, bytes, shape, axes, type, &input));
    const char *in[] = {input_name}, *out[] = {output_name};
    check(api->Run(session, NULL, in, (const OrtValue *const *)&input, 1, out, 1, &output));

    OrtTensorTypeAndShapeInfo *result;
    ONNXTensorElementDataType result_type;
    size_t values;
    void *found;
    check(api->GetTensorTypeAndShape(output, &result));
    check(api->GetTensorElementType(result, &result_type));
    check(api->GetTensorShapeElementCount(result, &values));
    check(api->GetTensorMutableData(output, &found));
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
