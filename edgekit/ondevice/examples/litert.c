/* One inference with TensorFlow Lite's C API, which LiteRT keeps: ./example [--values] [MODEL] INPUT
 *
 * INPUT: an image (.ppm or .pgm, 8 bits), which image.h makes the model's input from; any other file holds the raw
 * values of the model's first input, in its own type, one sample (numpy: array.tofile).
 * Prints the best classes of an image; otherwise, or with --values, the first output, one value per line; int8 values
 * as stored (real = scale * (stored - zero point)). MODEL is model/model.tflite if it is left out. The header is tensorflow/lite/c/c_api.h; without it, the required declarations are below.
 * See README.md for how to build it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "image.h"

#if defined(__has_include) && __has_include("tensorflow/lite/c/c_api.h")
#include "tensorflow/lite/c/c_api.h"
#else
typedef struct TfLiteModel TfLiteModel;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;
typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteTensor TfLiteTensor;
typedef enum { kTfLiteOk = 0 } TfLiteStatus;
typedef enum { kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt8 = 9 } TfLiteType;
typedef struct {
    float scale;
    int32_t zero_point;
} TfLiteQuantizationParams;
TfLiteModel *TfLiteModelCreateFromFile(const char *path);
TfLiteInterpreterOptions *TfLiteInterpreterOptionsCreate(void);
void TfLiteInterpreterOptionsSetNumThreads(TfLiteInterpreterOptions *options, int32_t threads);
TfLiteInterpreter *TfLiteInterpreterCreate(const TfLiteModel *model, const TfLiteInterpreterOptions *options);
TfLiteStatus TfLiteInterpreterAllocateTensors(TfLiteInterpreter *interpreter);
TfLiteTensor *TfLiteInterpreterGetInputTensor(const TfLiteInterpreter *interpreter, int32_t index);
const TfLiteTensor *TfLiteInterpreterGetOutputTensor(const TfLiteInterpreter *interpreter, int32_t index);
TfLiteStatus TfLiteInterpreterInvoke(TfLiteInterpreter *interpreter);
TfLiteType TfLiteTensorType(const TfLiteTensor *tensor);
size_t TfLiteTensorByteSize(const TfLiteTensor *tensor);
TfLiteQuantizationParams TfLiteTensorQuantizationParams(const TfLiteTensor *tensor);
int32_t TfLiteTensorNumDims(const TfLiteTensor *tensor);
int32_t TfLiteTensorDim(const TfLiteTensor *tensor, int32_t index);
void *TfLiteTensorData(const TfLiteTensor *tensor);
TfLiteStatus TfLiteTensorCopyFromBuffer(TfLiteTensor *tensor, const void *data, size_t bytes);
#endif

static void *must(void *thing, const char *what) {
    if (!thing) {
        fprintf(stderr, "example: %s\n", what);
        exit(1);
    }
    return thing;
}

static void check(TfLiteStatus status, const char *what) {
    if (status != kTfLiteOk) must(NULL, what);
}

/* One value as the input stores it: quantized, if the input is stored as integers. */
static void store(const char *path, void *data, size_t i, float value, TfLiteType type, TfLiteQuantizationParams to) {
    float least = type == kTfLiteInt8 ? -128.0f : 0.0f;
    if (type == kTfLiteFloat32) {
        ((float *)data)[i] = value;
        return;
    }
    if (type != kTfLiteInt8 && type != kTfLiteUInt8) fail(path, "the model's input is not float32, int8 or uint8");
    if (to.scale != 0) {
        value = rintf(value / to.scale) + (float)to.zero_point;
        value = value < least ? least : value > least + 255 ? least + 255 : value;
    }
    if (value < least || value > least + 255 || value != rintf(value))
        fail(path, "the model takes integers, and its preprocessing makes other values");
    if (type == kTfLiteInt8) ((int8_t *)data)[i] = (int8_t)value;
    else ((uint8_t *)data)[i] = (uint8_t)value;
}

/* The image as the tensor's values, in a batch of `bytes` that repeats it. */
static void *image_data(const char *path, const TfLiteTensor *input, size_t bytes) {
    PreImage sized = image_read(path);
    float *values = image_values(&sized);
    size_t size = pre_size(&sized), width = TfLiteTensorType(input) == kTfLiteFloat32 ? 4 : 1;
    if (bytes % (size * width)) fail(path, "it does not get the size of the model's input");
    void *data = must(malloc(bytes), "out of memory");
    for (size_t i = 0; i < bytes / width; i++)
        store(path, data, i, values[i % size], TfLiteTensorType(input), TfLiteTensorQuantizationParams(input));
    free(values), pre_free(&sized);
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

/* The first row of the scores as real numbers; NULL if the output is no row of class scores. */
static float *class_scores(const TfLiteTensor *output, size_t *count) {
    TfLiteType type = TfLiteTensorType(output);
    TfLiteQuantizationParams from = TfLiteTensorQuantizationParams(output);
    if (!CLASS_COUNT || TfLiteTensorNumDims(output) != 2 || TfLiteTensorDim(output, 1) < 2) return NULL;
    if (type != kTfLiteFloat32 && type != kTfLiteInt8 && type != kTfLiteUInt8) return NULL;
    const void *data = TfLiteTensorData(output);
    *count = (size_t)TfLiteTensorDim(output, 1);
    float *scores = must(malloc(*count * sizeof *scores), "out of memory");
    for (size_t i = 0; i < *count; i++) {
        float stored = type == kTfLiteFloat32 ? ((const float *)data)[i]
                       : type == kTfLiteInt8  ? ((const int8_t *)data)[i]
                                              : ((const uint8_t *)data)[i];
        scores[i] = from.scale != 0 ? from.scale * (stored - (float)from.zero_point) : stored;
    }
    return scores;
}

int main(int count, char **words) {
    int only_values = count > 1 && !strcmp(words[1], "--values"), given = count - only_values;
    if (given != 2 && given != 3) {
        fprintf(stderr, "usage: %s [--values] [MODEL] INPUT.ppm|INPUT.bin\n", words[0]);
        return 2;
    }
    const char *path = words[count - 1];
    TfLiteModel *model = must(
        TfLiteModelCreateFromFile(given == 3 ? words[count - 2] : "model/model.tflite"), "the model cannot be read");
    TfLiteInterpreterOptions *options = TfLiteInterpreterOptionsCreate();
    TfLiteInterpreterOptionsSetNumThreads(options, 1);
    TfLiteInterpreter *interpreter = must(TfLiteInterpreterCreate(model, options), "the model cannot be loaded");
    check(TfLiteInterpreterAllocateTensors(interpreter), "there is no memory for the tensors");

    TfLiteTensor *input = TfLiteInterpreterGetInputTensor(interpreter, 0);
    size_t bytes = TfLiteTensorByteSize(input);
    void *data = is_image(path) ? image_data(path, input, bytes) : raw_data(path, bytes);
    check(TfLiteTensorCopyFromBuffer(input, data, bytes), "the input does not fit");
    check(TfLiteInterpreterInvoke(interpreter), "the model cannot be run");

    const TfLiteTensor *output = TfLiteInterpreterGetOutputTensor(interpreter, 0);
    size_t classes;
    float *scores = is_image(path) && !only_values ? class_scores(output, &classes) : NULL;
    if (scores) return print_classes(path, scores, classes), 0;
    const void *found = TfLiteTensorData(output);
    size_t size = TfLiteTensorByteSize(output);
    switch (TfLiteTensorType(output)) {
    case kTfLiteFloat32:
        for (size_t i = 0; i < size / 4; i++) printf("%.9g\n", ((const float *)found)[i]);
        return 0;
    case kTfLiteInt32:
        for (size_t i = 0; i < size / 4; i++) printf("%d\n", ((const int32_t *)found)[i]);
        return 0;
    case kTfLiteInt8:
        for (size_t i = 0; i < size; i++) printf("%d\n", ((const int8_t *)found)[i]);
        return 0;
    case kTfLiteUInt8:
        for (size_t i = 0; i < size; i++) printf("%d\n", ((const uint8_t *)found)[i]);
        return 0;
    default:
        fprintf(stderr, "example: outputs of this type are not printed\n");
        return 1;
    }
}
