/* An image as the model's input, and scores as class names: what example.c needs in addition to the runtime.
 *
 * preprocess.h is the method, preprocessing.h this model's constants.
 */
#include "preprocessing.h"

static inline void fail(const char *path, const char *why) {
    fprintf(stderr, "example: %s: %s\n", path, why);
    exit(2);
}

/* Does the name end in .ppm or .pgm? */
static inline int is_image(const char *path) {
    size_t length = strlen(path);
    if (length < 4) return 0;
    const char *end = path + length - 4;
    return end[0] == '.' && (end[1] | 32) == 'p' && ((end[2] | 32) == 'p' || (end[2] | 32) == 'g') && (end[3] | 32) == 'm';
}

/* The pixels of the model's input; ends the program if the file cannot be read or does not fit. */
static inline PreImage image_read(const char *path) {
    PreFront front = preprocessing();
    PreImage photo, sized;
    if (*IMAGE_PROBLEM) fail(path, IMAGE_PROBLEM);
    const char *error = pre_read(path, &photo);
    if (!*error) {
        error = pre_pixels(&photo, &front, &sized);
        pre_free(&photo);
    }
    if (*error) fail(path, error);
    if ((INPUT_HEIGHT && sized.height != INPUT_HEIGHT) || (INPUT_WIDTH && sized.width != INPUT_WIDTH))
        fail(path, "it does not get the size of the model's input");
    if (*IMAGE_WARNING) fprintf(stderr, "example: %s\n", IMAGE_WARNING);
    return sized;
}

/* The length of one axis of the model's input. */
static inline int image_axis(const PreImage *sized, size_t axis) {
    const int first[] = {1, sized->channels, sized->height, sized->width};
    const int last[] = {1, sized->height, sized->width, sized->channels};
    return axis > 3 ? 1 : preprocessing().nhwc ? last[axis] : first[axis];
}

static inline float *image_values(const PreImage *sized) {
    PreFront front = preprocessing();
    float *values = malloc(pre_size(sized) * sizeof *values);
    if (!values) fail("the input", "out of memory");
    pre_floats(sized, &front, values);
    return values;
}

/* The three classes with the greatest scores, as predict.py prints them: the share of logits is their softmax, that of
   probabilities themselves; scores of which it is not known are shares if they add up to 1 already. */
static inline void print_classes(const char *path, const float *scores, size_t count) {
    size_t best[3] = {0}, kept = 0;
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        size_t place = kept;
        while (place && scores[i] > scores[best[place - 1]]) place--;
        if (place == 3) continue;
        kept = kept < 3 ? kept + 1 : 3;
        for (size_t k = kept - 1; k > place; k--) best[k] = best[k - 1];
        best[place] = i;
    }
    double sum = 0, least = scores[0];
    for (size_t i = 0; i < count; i++) {
        sum += scores[i];
        least = scores[i] < least ? scores[i] : least;
        total += exp((double)scores[i] - (double)scores[best[0]]);
    }
    int shares = SCORES == 2 || (SCORES == 0 && least >= 0 && fabs(sum - 1) < 1e-3);
    printf("%s: ", path);
    for (size_t k = 0; k < kept; k++) {
        double share = exp((double)scores[best[k]] - (double)scores[best[0]]) / total;
        if (shares) share = scores[best[k]] / (sum ? sum : 1.0);
        if (best[k] < CLASS_COUNT) printf("%s%s", k ? ", " : "", CLASSES[best[k]]);
        else printf("%s%zu", k ? ", " : "", best[k]);
        printf(" %.1f%%", 100 * share);
    }
    printf("\n");
}
