/* An image as a model's input: the same as ../preprocess.py, whose docstrings say what the parameters mean.
 *
 *     PreImage photo, sized;
 *     PreFront front = pre_front();
 *     front.mode = PRE_SHORTEST, front.size[0] = 36, front.crop[0] = front.crop[1] = 32, front.scale = 1 / 255.0f;
 *     const char *error = pre_read("photo.ppm", &photo);
 *     if (!*error) error = pre_pixels(&photo, &front, &sized);
 *     float *input = malloc(pre_size(&sized) * sizeof *input);
 *     if (!*error) pre_floats(&sized, &front, input);
 *
 * C99 and the mathematical library (-lm). Compile it with -ffp-contract=off (or -std=c99): a fused multiplication may
 * round the last bit in another way. Memory is from malloc; pre_free returns it.
 */
#ifndef EDGEKIT_PREPROCESS_H
#define EDGEKIT_PREPROCESS_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { PRE_NEAREST, PRE_BOX, PRE_BILINEAR, PRE_HAMMING, PRE_BICUBIC, PRE_LANCZOS } PreFilter;
typedef enum { PRE_KEEP, PRE_STRETCH, PRE_SHORTEST, PRE_LETTERBOX, PRE_LETTERBOX_CORNER } PreMode;

/* Rows of pixels; `channels`: 1, gray, or 3, red, green, blue. */
typedef struct {
    int height, width, channels;
    uint8_t *pixels;
} PreImage;

typedef struct {
    int channels; /* of the model's input: 1 or 3; 0: as the image has them */
    int gray;     /* the colour is gray, also if it is replicated to 3 channels */
    int bgr;      /* blue, green, red */
    int nhwc;     /* channels last */
    PreMode mode;
    int size[2]; /* height and width in pixels; PRE_SHORTEST: size[0], the shorter side */
    double fill; /* of a letterbox: a grey level from 0 to 255 */
    int crop[2]; /* height and width; 0: none */
    int crop_down;
    PreFilter filter;
    int antialias;
    float scale;
    int means, stds; /* 0, 1 or one for each channel, in the model's order */
    float mean[3], std[3];
} PreFront;

static inline PreFront pre_front(void) {
    PreFront front;
    memset(&front, 0, sizeof front);
    front.filter = PRE_BILINEAR;
    front.antialias = 1;
    front.scale = 1.0f;
    return front;
}

static inline size_t pre_size(const PreImage *image) {
    return (size_t)image->height * (size_t)image->width * (size_t)image->channels;
}

static inline void pre_free(PreImage *image) {
    free(image->pixels);
    image->pixels = NULL;
}

static inline const char *pre_new(int height, int width, int channels, PreImage *out) {
    out->pixels = NULL;
    if (height < 1 || width < 1 || height > 1 << 20 || width > 1 << 20) return "the size is not from 1 to 2^20 pixels";
    if ((size_t)height > SIZE_MAX / 4 / (size_t)width) return "out of memory";
    out->height = height, out->width = width, out->channels = channels;
    out->pixels = calloc(1, pre_size(out));
    return out->pixels ? "" : "out of memory";
}

/* --- files ------------------------------------------------------------------------------------------------------- */

/* The next number of a netpbm header, after spaces and comments; -1 if there is none. */
static inline int pre_number(FILE *file) {
    int c = fgetc(file), spaces = 0;
    while (c == ' ' || (c >= '\t' && c <= '\r') || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = fgetc(file);
        spaces = 1;
        c = fgetc(file);
    }
    if (!spaces || c < '0' || c > '9') return -1;
    int number = 0;
    for (; c >= '0' && c <= '9'; c = fgetc(file)) number = number > 1 << 24 ? number : 10 * number + c - '0';
    ungetc(c, file);
    return number;
}

/* An 8-bit binary PGM or PPM file (P5, P6); returns "" or an error message. */
static inline const char *pre_read(const char *path, PreImage *out) {
    out->pixels = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) return "it cannot be opened";
    int p = fgetc(file), kind = fgetc(file);
    int width = pre_number(file), height = pre_number(file), most = pre_number(file), space = fgetc(file);
    const char *error = "only .pgm and .ppm images of 8 bits can be read";
    if (p == 'P' && (kind == '5' || kind == '6') && most == 255 && (space == ' ' || (space >= '\t' && space <= '\r')))
        error = width == 0 || height == 0 ? "it is empty" : pre_new(height, width, kind == '6' ? 3 : 1, out);
    if (!*error && fread(out->pixels, 1, pre_size(out), file) != pre_size(out)) {
        pre_free(out);
        error = "it is truncated";
    }
    fclose(file);
    return error;
}

/* --- resampling -------------------------------------------------------------------------------------------------- */

enum { PRE_BITS = 32 - 8 - 2 };

/* What each output pixel is the sum of: `taps` pixels from `first`, with fixed-point or float weights. */
typedef struct {
    int taps, *first, *count;
    int32_t *fixed;
    float *real;
} PreTaps;

static inline void pre_taps_free(PreTaps *taps) {
    free(taps->first), free(taps->count), free(taps->fixed), free(taps->real);
}

static inline double pre_sinc(double x) {
    if (x == 0) return 1;
    x *= 3.14159265358979323846;
    return sin(x) / x;
}

static inline double pre_weight(PreFilter filter, double x) {
    double size = fabs(x), angle;
    switch (filter) {
    case PRE_BOX: return x > -0.5 && x <= 0.5;
    case PRE_BILINEAR: return size < 1 ? 1 - size : 0;
    case PRE_HAMMING:
        if (size == 0) return 1;
        if (size >= 1) return 0;
        angle = size * 3.14159265358979323846;
        return sin(angle) / angle * ((double)0.54f + (double)0.46f * cos(angle));
    case PRE_BICUBIC:
        if (size < 1) return (1.5 * size - 2.5) * size * size + 1;
        return size < 2 ? (((size - 5) * size + 8) * size - 4) * -0.5 : 0;
    case PRE_LANCZOS: return x >= -3 && x < 3 ? pre_sinc(x) * pre_sinc(x / 3) : 0;
    default: return 0;
    }
}

/* As _coefficients in ../preprocess.py: Pillow's fixed-point weights. */
static inline const char *pre_filtered_taps(int size, int count, PreFilter filter, PreTaps *out) {
    static const double SUPPORT[] = {0, 0.5, 1, 1, 2, 3};
    double scale = (double)size / count, widened = scale < 1 ? 1 : scale, support = SUPPORT[filter] * widened;
    memset(out, 0, sizeof *out);
    out->taps = 2 * (int)ceil(support) + 1;
    double *weights = malloc((size_t)out->taps * sizeof *weights);
    out->first = malloc((size_t)count * sizeof *out->first), out->count = malloc((size_t)count * sizeof *out->count);
    out->fixed = calloc((size_t)count * (size_t)out->taps, sizeof *out->fixed);
    if (!weights || !out->first || !out->count || !out->fixed) return free(weights), pre_taps_free(out), "out of memory";
    for (int i = 0; i < count; i++) {
        double centre = (i + 0.5) * scale, total = 0;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
        first = first < 0 ? 0 : first, end = end > size ? size : end;
        for (int x = first; x < end; x++)
            total += weights[x - first] = pre_weight(filter, (x - centre + 0.5) * (1.0 / widened));
        for (int x = 0; x < end - first; x++) {
            double share = total != 0 ? weights[x] / total : weights[x];
            out->fixed[(size_t)i * (size_t)out->taps + (size_t)x] =
                (int32_t)(share * (1 << PRE_BITS) + (share < 0 ? -0.5 : 0.5));
        }
        out->first[i] = first, out->count[i] = end - first;
    }
    free(weights);
    return "";
}

static inline uint8_t pre_rounded(int32_t sum) {
    if (sum < 0) return 0;
    sum >>= PRE_BITS;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

/* One pass over an axis (0: rows, 1: columns). */
static inline const char *pre_pass(const PreImage *in, int axis, int count, PreFilter filter, PreImage *out) {
    PreTaps taps;
    const char *error = pre_filtered_taps(axis ? in->width : in->height, count, filter, &taps);
    if (*error) return error;
    error = pre_new(axis ? in->height : count, axis ? count : in->width, in->channels, out);
    size_t channels = (size_t)in->channels, row = (size_t)in->width * channels, step = axis ? channels : row;
    for (int y = 0; !*error && y < out->height; y++)
        for (int x = 0; x < out->width; x++) {
            int i = axis ? x : y;
            const int32_t *weights = taps.fixed + (size_t)i * (size_t)taps.taps;
            const uint8_t *from = in->pixels + (axis ? (size_t)y * row : (size_t)x * channels) + (size_t)taps.first[i] * step;
            uint8_t *to = out->pixels + ((size_t)y * (size_t)out->width + (size_t)x) * channels;
            for (size_t c = 0; c < channels; c++) {
                int32_t sum = 1 << (PRE_BITS - 1);
                for (int k = 0; k < taps.count[i]; k++) sum += from[(size_t)k * step + c] * weights[k];
                to[c] = pre_rounded(sum);
            }
        }
    pre_taps_free(&taps);
    return error;
}

static inline const char *pre_copy(const PreImage *in, PreImage *out) {
    const char *error = pre_new(in->height, in->width, in->channels, out);
    if (!*error) memcpy(out->pixels, in->pixels, pre_size(in));
    return error;
}

static inline const char *pre_filtered(const PreImage *in, int height, int width, PreFilter filter, PreImage *out) {
    int sizes[2], across = 2 * (in->width - width), first = in->height - height > (across > 0 ? across : 0) ? 0 : 1;
    sizes[0] = height, sizes[1] = width;
    PreImage between;
    if (in->height == height || in->width == width)
        return pre_pass(in, in->height == height ? 1 : 0, in->height == height ? width : height, filter, out);
    const char *error = pre_pass(in, first, sizes[first], filter, &between);
    if (*error) return error;
    error = pre_pass(&between, 1 - first, sizes[1 - first], filter, out);
    pre_free(&between);
    return error;
}

static inline int pre_clamped(int value, int most) { return value < 0 ? 0 : value > most ? most : value; }

/* The input pixel of each output pixel, as Pillow's nearest or, without antialias, torch's. */
static inline void pre_nearest_indexes(int size, int count, int antialias, int *out) {
    double step = (double)size / count, at = step * 0.5;
    float scale = (float)size / (float)count;
    for (int i = 0; i < count; i++, at += step) out[i] = pre_clamped((int)(antialias ? at : (double)((float)i * scale)), size - 1);
}

static inline const char *pre_nearest(const PreImage *in, int height, int width, int antialias, PreImage *out) {
    const char *error = pre_new(height, width, in->channels, out);
    if (*error) return error;
    int *rows = malloc((size_t)height * sizeof *rows), *columns = malloc((size_t)width * sizeof *columns);
    if (!rows || !columns) return free(rows), free(columns), pre_free(out), "out of memory";
    pre_nearest_indexes(in->height, height, antialias, rows);
    pre_nearest_indexes(in->width, width, antialias, columns);
    size_t channels = (size_t)in->channels;
    uint8_t *to = out->pixels;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, to += channels)
            memcpy(to, in->pixels + ((size_t)rows[y] * (size_t)in->width + (size_t)columns[x]) * channels, channels);
    free(rows), free(columns);
    return "";
}

/* As torch_taps in ../preprocess.py: `first` may lie outside, the pixels are clamped. */
static inline const char *pre_torch_taps(int size, int count, PreFilter filter, PreTaps *out) {
    memset(out, 0, sizeof *out);
    out->taps = size == count ? 1 : filter == PRE_BICUBIC ? 4 : 2;
    out->first = malloc((size_t)count * sizeof *out->first);
    out->real = malloc((size_t)count * (size_t)out->taps * sizeof *out->real);
    if (!out->first || !out->real) return pre_taps_free(out), "out of memory";
    float scale = (float)size / (float)count;
    for (int i = 0; i < count; i++) {
        float place = scale * ((float)i + 0.5f) - 0.5f, *w = out->real + (size_t)i * (size_t)out->taps;
        if (out->taps == 1) {
            out->first[i] = i, w[0] = 1;
        } else if (out->taps == 2) {
            place = place < 0 ? 0 : place;
            out->first[i] = pre_clamped((int)place, size - 1);
            float share = place - (float)out->first[i];
            w[0] = 1 - share, w[1] = share;
        } else {
            float low = floorf(place), share = place - low, rest = 1 - share, far = share + 1, last = rest + 1;
            out->first[i] = (int)low - 1;
            w[0] = ((-0.75f * far + 3.75f) * far - 6) * far + 3;
            w[1] = (1.25f * share - 2.25f) * share * share + 1;
            w[2] = (1.25f * rest - 2.25f) * rest * rest + 1;
            w[3] = ((-0.75f * last + 3.75f) * last - 6) * last + 3;
        }
    }
    return "";
}

static inline const char *pre_interpolated(const PreImage *in, int height, int width, PreFilter filter, PreImage *out) {
    PreTaps across, down;
    const char *error = pre_torch_taps(in->width, width, filter, &across);
    if (*error) return error;
    error = pre_torch_taps(in->height, height, filter, &down);
    if (*error) return pre_taps_free(&across), error;
    error = pre_new(height, width, in->channels, out);
    uint8_t *to = out->pixels;
    for (int y = 0; !*error && y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < in->channels; c++) {
                float sum = 0;
                for (int j = 0; j < down.taps; j++) {
                    size_t row = (size_t)pre_clamped(down.first[y] + j, in->height - 1) * (size_t)in->width;
                    float part = 0;
                    for (int k = 0; k < across.taps; k++) {
                        size_t column = (size_t)pre_clamped(across.first[x] + k, in->width - 1);
                        part += (float)in->pixels[(row + column) * (size_t)in->channels + (size_t)c] *
                                across.real[(size_t)x * (size_t)across.taps + (size_t)k];
                    }
                    sum += part * down.real[(size_t)y * (size_t)down.taps + (size_t)j];
                }
                sum = rintf(sum);
                *to++ = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
            }
    pre_taps_free(&across), pre_taps_free(&down);
    return error;
}

/* To another size; returns "" or an error message. */
static inline const char *pre_resample(
    const PreImage *in, int height, int width, PreFilter filter, int antialias, PreImage *out) {
    out->pixels = NULL;
    if (height < 1 || width < 1) return "an image cannot be resized to nothing";
    if (in->height == height && in->width == width) return pre_copy(in, out);
    if (filter == PRE_NEAREST) return pre_nearest(in, height, width, antialias, out);
    if (antialias) return pre_filtered(in, height, width, filter, out);
    if (filter != PRE_BILINEAR && filter != PRE_BICUBIC) return "without antialias: nearest, bilinear or bicubic";
    return pre_interpolated(in, height, width, filter, out);
}

/* --- geometry ---------------------------------------------------------------------------------------------------- */

/* `part` of `from` at (y, x) is put into `to` at (top, left). */
static inline void pre_paste(const PreImage *from, int y, int x, int height, int width, PreImage *to, int top, int left) {
    size_t channels = (size_t)from->channels;
    for (int row = 0; row < height; row++)
        memcpy(to->pixels + ((size_t)(top + row) * (size_t)to->width + (size_t)left) * channels,
               from->pixels + ((size_t)(y + row) * (size_t)from->width + (size_t)x) * channels, (size_t)width * channels);
}

static inline const char *pre_letterboxed(const PreImage *in, const PreFront *front, PreImage *out) {
    double tall = (double)front->size[0] / in->height, wide = (double)front->size[1] / in->width;
    double ratio = tall < wide ? tall : wide, height = in->height * ratio, width = in->width * ratio;
    int corner = front->mode == PRE_LETTERBOX_CORNER;
    height = corner ? floor(height) : rint(height);
    width = corner ? floor(width) : rint(width);
    PreImage inner;
    const char *error = pre_resample(
        in, height < 1 ? 1 : (int)height, width < 1 ? 1 : (int)width, front->filter, front->antialias, &inner);
    if (*error) return error;
    error = pre_new(front->size[0], front->size[1], in->channels, out);
    if (!*error) {
        memset(out->pixels, (int)rint(front->fill), pre_size(out));
        int top = (int)rint((out->height - inner.height) / 2.0 - 0.1), left = (int)rint((out->width - inner.width) / 2.0 - 0.1);
        pre_paste(&inner, 0, 0, inner.height, inner.width, out, corner ? 0 : top, corner ? 0 : left);
    }
    pre_free(&inner);
    return error;
}

static inline const char *pre_resized(const PreImage *in, const PreFront *front, PreImage *out) {
    int height = front->size[0], width = front->size[1];
    if (front->mode >= PRE_LETTERBOX) return pre_letterboxed(in, front, out);
    if (front->mode == PRE_SHORTEST) {
        double size = (double)height;
        width = in->height <= in->width ? (int)(size * in->width / in->height) : height;
        height = in->height <= in->width ? height : (int)(size * in->height / in->width);
    }
    return pre_resample(in, height, width, front->filter, front->antialias, out);
}

/* As _span in ../preprocess.py. */
static inline void pre_span(int whole, int part, int down, int *from, int *to, int *length) {
    *from = part > whole ? 0 : down ? (whole - part) / 2 : (int)rint((whole - part) / 2.0);
    *to = part <= whole ? 0 : (part - whole + (down ? 1 : 0)) / 2;
    *length = part < whole ? part : whole;
}

static inline const char *pre_cropped(const PreImage *in, const PreFront *front, PreImage *out) {
    int y, x, top, left, height, width;
    const char *error = pre_new(front->crop[0], front->crop[1], in->channels, out);
    if (*error) return error;
    pre_span(in->height, out->height, front->crop_down, &y, &top, &height);
    pre_span(in->width, out->width, front->crop_down, &x, &left, &width);
    pre_paste(in, y, x, height, width, out, top, left);
    return "";
}

/* --- values ------------------------------------------------------------------------------------------------------ */

/* ITU-R BT.601, as Pillow. */
static inline const char *pre_grayed(const PreImage *in, const PreFront *front, PreImage *out) {
    (void)front;
    const char *error = pre_new(in->height, in->width, 1, out);
    const uint8_t *from = in->pixels;
    for (size_t i = 0; !*error && i < pre_size(out); i++, from += 3)
        out->pixels[i] = (uint8_t)((from[0] * 19595u + from[1] * 38470u + from[2] * 7471u + 0x8000u) >> 16);
    return error;
}

static inline const char *pre_replicated(const PreImage *in, const PreFront *front, PreImage *out) {
    (void)front;
    const char *error = pre_new(in->height, in->width, 3, out);
    for (size_t i = 0; !*error && i < pre_size(out); i++) out->pixels[i] = in->pixels[i / 3];
    return error;
}

/* Colours, resize and crop: the pixels of the model's input, rows of red, green, blue. Returns "" or an error message. */
static inline const char *pre_pixels(const PreImage *in, const PreFront *front, PreImage *out) {
    int gray = in->channels == 1 || front->channels == 1 || front->gray;
    const char *(*const STEPS[])(const PreImage *, const PreFront *, PreImage *) = {
        gray && in->channels == 3 ? pre_grayed : NULL, front->mode != PRE_KEEP ? pre_resized : NULL,
        front->crop[0] || front->crop[1] ? pre_cropped : NULL, gray && front->channels == 3 ? pre_replicated : NULL};
    PreImage now = *in, next;
    memset(out, 0, sizeof *out);
    for (size_t step = 0; step < sizeof STEPS / sizeof *STEPS; step++) {
        if (!STEPS[step]) continue;
        const char *error = STEPS[step](&now, front, &next);
        if (now.pixels != in->pixels) pre_free(&now);
        if (*error) return error;
        now = next;
    }
    if (now.pixels == in->pixels) {
        const char *error = pre_copy(in, &now);
        if (*error) return error;
    }
    if ((front->means > 1 && front->means != now.channels) || (front->stds > 1 && front->stds != now.channels))
        return pre_free(&now), "mean and std hold one value, or one for each channel";
    *out = now;
    return "";
}

/* Where the model's input has channel `c` (red, green, blue) of pixel `i`. */
static inline size_t pre_place(const PreImage *image, const PreFront *front, size_t i, int c) {
    int channel = front->bgr ? image->channels - 1 - c : c;
    if (front->nhwc) return i * (size_t)image->channels + (size_t)channel;
    return (size_t)channel * (size_t)image->height * (size_t)image->width + i;
}

/* The pixels in the layout of the model's input, which is not normalized: pre_size(image) bytes. */
static inline void pre_bytes(const PreImage *image, const PreFront *front, uint8_t *out) {
    for (size_t i = 0; i < (size_t)image->height * (size_t)image->width; i++)
        for (int c = 0; c < image->channels; c++)
            out[pre_place(image, front, i, c)] = image->pixels[i * (size_t)image->channels + (size_t)c];
}

/* (x * scale - mean) / std in the layout of the model's input: pre_size(image) floats. */
static inline void pre_floats(const PreImage *image, const PreFront *front, float *out) {
    for (size_t i = 0; i < (size_t)image->height * (size_t)image->width; i++)
        for (int c = 0; c < image->channels; c++) {
            float value = (float)image->pixels[i * (size_t)image->channels + (size_t)c] * front->scale;
            int place = front->bgr ? image->channels - 1 - c : c;
            if (front->means) value -= front->mean[front->means > 1 ? place : 0];
            if (front->stds) value /= front->std[front->stds > 1 ? place : 0];
            out[pre_place(image, front, i, c)] = value;
        }
}

#endif
