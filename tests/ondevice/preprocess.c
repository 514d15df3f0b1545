/* edgekit/ondevice/native/preprocess.h as a program, for test_preprocess.py:
 *
 *     preprocess image.ppm out.bin channels gray bgr nhwc mode height width fill crop_height crop_width crop_down filter
 *         antialias scale means mean… stds std…
 *
 * Writes uint8 if nothing normalizes, else float32, and prints height, width and channels.
 */
#include "preprocess.h"

static char **word;

static double next(void) { return *word ? atof(*word++) : 0; }

static int failed(const char *error) {
    fprintf(stderr, "%s\n", error);
    return 1;
}

int main(int count, char **words) {
    if (count < 18) return failed("arguments are missing");
    word = words + 3;
    PreFront front = pre_front();
    front.channels = (int)next(), front.gray = (int)next(), front.bgr = (int)next(), front.nhwc = (int)next();
    front.mode = (PreMode)next(), front.size[0] = (int)next(), front.size[1] = (int)next(), front.fill = next();
    front.crop[0] = (int)next(), front.crop[1] = (int)next(), front.crop_down = (int)next();
    front.filter = (PreFilter)next(), front.antialias = (int)next(), front.scale = (float)next();
    front.means = (int)next();
    for (int i = 0; i < front.means; i++) front.mean[i] = (float)next();
    front.stds = (int)next();
    for (int i = 0; i < front.stds; i++) front.std[i] = (float)next();

    PreImage photo, sized;
    const char *error = pre_read(words[1], &photo);
    if (*error) return failed(error);
    error = pre_pixels(&photo, &front, &sized);
    pre_free(&photo);
    if (*error) return failed(error);
    int floats = front.scale != 1 || front.means || front.stds;
    size_t width = floats ? sizeof(float) : 1;
    void *input = malloc(pre_size(&sized) * width);
    FILE *out = fopen(words[2], "wb");
    if (!input || !out) return failed("the output cannot be written");
    if (floats) pre_floats(&sized, &front, input);
    else pre_bytes(&sized, &front, input);
    fwrite(input, width, pre_size(&sized), out);
    printf("%d %d %d\n", sized.height, sized.width, sized.channels);
    free(input), pre_free(&sized);
    return fclose(out) != 0;
}
