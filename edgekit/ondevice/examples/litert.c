/* One inference with TensorFlow Lite's C API, which LiteRT keeps: ./example model/model.tflite input.bin
 *
 * input.bin holds the raw values of the model's first input, in its own type, one sample (numpy: array.tofile).
 * Prints the first output, one value per line; int8 values as stored (real = scale * (stored - zero point)).
 * The header is tensorflow/lite/c/c_api.h; without it, the required declarations are below.
 * See README.md for how to build it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__has_include) && __has_include("tensorflow/lite/c/c_api.h")
#include "tensorflow/lite/c/c_api.h"
#else
typedef struct TfLiteModel TfLiteModel;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;
typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteTensor TfLiteTensor;
typedef enum { kTfLiteOk = 0 } TfLiteStatus;
typedef enum { kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt8 = 9 } TfLiteType;
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

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: %s MODEL INPUT\n", words[0]);
        return 2;
    }
    TfLiteModel *model = must(TfLiteModelCreateFromFile(words[1]), "the model cannot be read");
    TfLiteInterpreterOptions *options = TfLiteInterpreterOptionsCreate();
    TfLiteInterpreterOptionsSetNumThreads(options, 1);
    TfLiteInterpreter *interpreter = must(TfLiteInterpreterCreate(model, options), "the model cannot be loaded");
    check(TfLiteInterpreterAllocateTensors(interpreter), "there is no memory for the tensors");

    TfLiteTensor *input = TfLiteInterpreterGetInputTensor(interpreter, 0);
    size_t bytes = TfLiteTensorByteSize(input);
    void *data = malloc(bytes);
    FILE *file = fopen(words[2], "rb");
    if (!file || fread(data, 1, bytes, file) != bytes) {
        fprintf(stderr, "example: %s must hold %zu bytes\n", words[2], bytes);
        return 2;
    }
    fclose(file);
    check(TfLiteTensorCopyFromBuffer(input, data, bytes), "the input does not fit");
    check(TfLiteInterpreterInvoke(interpreter), "the model cannot be run");

    const TfLiteTensor *output = TfLiteInterpreterGetOutputTensor(interpreter, 0);
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
