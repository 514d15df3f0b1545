/* Run one job on a device without Python: `runner JOB.json RESULT.json`; the protocol of ../runner.py.
 *
 * The job names a runtime and its library, which is loaded at run time, so one runner works with every release of it.
 * Samples are run one at a time, or in the model's fixed batch. Labels are never sent to a device.
 *
 * `runner --predict JOB OUT INPUT.npy …` takes the runtime and the model from a job, and the inputs, in the model's
 * order, from files; the outputs are written to OUT, with a result.json that names them. Of a model with states, they are
 * those that the job's `outputs` names; of new tokens, NEW_TOKENS in the environment tells how many. `runner --link TO
 * PATH` replaces a symbolic link atomically, which `ln` and `mv` cannot do on every device.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <glob.h>
#include <math.h>
#include <stdarg.h>
#include <time.h>

#include "engine.h"
#include "json.h"

#define SCHEMA "edgekit-runner/1"
enum { DISTINCT_BATCHES = 16 };

static const char *job_path, *result_path;
static const Engine *engine;
Spec ins[MOST], outs[MOST];
State states[MOST_STATES];
size_t in_count, out_count, state_count;
static Array given[MOST]; /* in the order of the inputs */

/* --- the result ------------------------------------------------------------------------------------------------- */

static FILE *result_open(char *part, size_t room) {
    snprintf(part, room, "%s.part", result_path);
    FILE *file = fopen(part, "w");
    if (!file) {
        fprintf(stderr, "%s cannot be written\n", part);
        exit(2);
    }
    return file;
}

static void result_close(FILE *file, const char *part) {
    if (fflush(file) || fsync(fileno(file)) || fclose(file) || rename(part, result_path)) {
        fprintf(stderr, "%s: No space left on device, or it cannot be written\n", result_path);
        exit(2);
    }
}

_Noreturn void refuse(const char *kind, const char *format, ...) {
    char part[4096], what[600];
    va_list words;
    va_start(words, format);
    vsnprintf(what, sizeof what, format, words);
    va_end(words);
    for (char *at = what; *at; at++)
        if (*at == '\n') *at = ' ';
    FILE *file = result_open(part, sizeof part);
    fprintf(file, "{\"schema\": \"" SCHEMA "\", \"error\": {\"kind\": \"%s\", \"what\": ", kind);
    json_write(file, what);
    fprintf(file, "}}\n");
    result_close(file, part);
    _exit(0); /* `exit` would write what is left of an unfinished result into this one */
}

void *room(size_t bytes) {
    void *made = malloc(bytes ? bytes : 1);
    if (!made) refuse("memory", "out of memory");
    return made;
}

/* A path of the job; a relative one is relative to the job's file. */
static const char *path_in(const Json *job, const char *key) {
    const char *path = json_text(job, key), *end = strrchr(job_path, '/');
    if (*path == '/' || !end) return path;
    size_t folder = (size_t)(end - job_path) + 1;
    char *whole_path = room(folder + strlen(path) + 1);
    memcpy(whole_path, job_path, folder);
    strcpy(whole_path + folder, path);
    return whole_path;
}

static const char *open_library(const Json *job) {
    static const Engine *const engines[] = {&onnxruntime, &litert};
    const char *name = json_text(job, "runtime"), *path = path_in(job, "library");
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++)
        if (!strcmp(engines[i]->name, name)) engine = engines[i];
    if (!engine) refuse("missing", "the runner does not support the runtime %s", name);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) refuse("missing", "%s", dlerror());
    return engine->open(library, json_text(job, "version"));
}

/* --- the samples ------------------------------------------------------------------------------------------------ */

static const char *listed(const int64_t *shape, int axes, char *text, size_t room_) {
    size_t used = (size_t)snprintf(text, room_, "[");
    for (int i = 0; i < axes && used < room_; i++)
        used += (size_t)snprintf(text + used, room_ - used, shape[i] < 0 ? "%sNone" : "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < room_) snprintf(text + used, room_ - used, "]");
    return text;
}

/* Is each sample the whole input (the array has one axis more)? If not, the input's first axis is the batch. */
static int whole(size_t i) { return given[i].axes > ins[i].axes; }

static void match(size_t count, const char *const *names, const char *const *paths) {
    if (count != in_count) refuse("input", "the model takes %zu inputs; the samples hold %zu", in_count, count);
    for (size_t i = 0; i < in_count; i++) {
        size_t at = in_count == 1 ? 0 : i;
        for (size_t k = 0; names && in_count > 1 && k <= count; k++) {
            if (k == count) refuse("input", "the model takes %s, which the samples do not hold", ins[i].name);
            if (!strcmp(names[k], ins[i].name)) {
                at = k;
                break;
            }
        }
        const char *wrong = npy_read(paths[at], &given[i]);
        if (*wrong) refuse("input", "%s: %s", names ? names[at] : paths[at], wrong);
        const Spec *spec = &ins[i];
        int from = whole(i) ? 0 : 1, fits = given[i].axes == spec->axes - from + 1;
        for (int axis = from; fits && axis < spec->axes; axis++)
            fits = spec->shape[axis] < 0 || spec->shape[axis] == given[i].shape[axis - from + 1];
        char a[200], b[200];
        if (!fits)
            refuse("input", "%s takes %s per sample; the samples are %s", spec->name,
                   listed(spec->shape + (spec->axes > 0), spec->axes ? spec->axes - 1 : 0, a, sizeof a),
                   listed(given[i].shape + 1, given[i].axes - 1, b, sizeof b));
    }
}

/* The model's fixed batch size, 0 if it is dynamic. */
static int64_t fixed_batch(void) {
    int64_t smallest = 0, largest = 0, open = 0;
    for (size_t i = 0; i < in_count; i++) {
        int64_t size = whole(i) ? 1 : ins[i].shape[0];
        if (size < 0) {
            open = 1;
            continue;
        }
        smallest = smallest && smallest < size ? smallest : size;
        largest = largest > size ? largest : size;
    }
    if (largest > 1 && (smallest != largest || open))
        refuse("input", "one input takes %lld rows, and another input takes another number", (long long)largest);
    return smallest;
}

static int64_t sample_count(void) {
    int64_t count = INT64_MAX;
    for (size_t i = 0; i < in_count; i++) count = given[i].shape[0] < count ? given[i].shape[0] : count;
    return in_count ? count : 0;
}

/* One number in the input's dtype, quantized if the input is stored as integers. */
static void stored(const Spec *spec, char *to, int64_t at, Type type, const char *from, int64_t index) {
    long double value = get(type, from, index), exact = value;
    if (spec->scale != 0) {
        float steps = rintf((float)value / spec->scale) + (float)spec->zero;
        /* for the wide types, the extreme floats within both signed and unsigned 32 bits */
        float low = spec->type == T_I8 ? -128 : spec->type == T_I16 ? -32768 : spec->type < T_U8 ? -2147483648.0f : 0;
        float high = spec->type == T_I8    ? 127
                     : spec->type == T_U8  ? 255
                     : spec->type == T_I16 ? 32767
                     : spec->type == T_U16 ? 65535
                                           : 2147483520.0f;
        value = steps < low ? low : steps > high ? high : steps;
    }
    if (!put(spec->type, to, at, value)) refuse("input", "%s takes %s; the samples hold %Lg", spec->name, TYPES[spec->type].name, exact);
}

/* The batch of `size` samples from `first`, in the model's dtype; padded by repeating the last sample. */
static Feed feed_of(int64_t first, int64_t size, int64_t count) {
    Feed feed = {0};
    for (size_t i = 0; i < in_count; i++) {
        const Array *array = &given[i];
        const Spec *spec = &ins[i];
        int64_t per = elements(array->shape + 1, array->axes - 1);
        int64_t rows = whole(i) ? 1 : size, width = (int64_t)TYPES[spec->type].width;
        feed.bytes[i] = (size_t)(rows * per * width);
        feed.data[i] = room(feed.bytes[i]);
        for (int64_t row = 0; row < rows; row++) {
            int64_t from = (first + row < count ? first + row : count - 1) * per;
            char *to = feed.data[i] + row * per * width;
            if (array->type == spec->type && spec->scale == 0) {
                memcpy(to, array->data + from * width, (size_t)(per * width));
                continue;
            }
            for (int64_t k = 0; k < per; k++) stored(spec, to, k, array->type, array->data, from + k);
        }
        if (!whole(i)) feed.shape[i][feed.axes[i]++] = rows;
        for (int axis = 1; axis < array->axes; axis++) feed.shape[i][feed.axes[i]++] = array->shape[axis];
    }
    engine->bind(&feed);
    return feed;
}

static void feed_free(Feed *feed) {
    engine->unbind(feed);
    for (size_t i = 0; i < in_count; i++) free(feed->data[i]);
}

/* --- time ------------------------------------------------------------------------------------------------------- */

static int64_t now_of(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int64_t now(void) { return now_of(CLOCK_MONOTONIC); }

/* --- states ------------------------------------------------------------------------------------------------------ */

/* A number of things in the job; 0 if it is not there. */
static int64_t whole_number(const Json *from, const char *name) {
    double value = json_get(from, name) ? json_number(from, name) : 0;
    if (!(value >= 0 && value <= 1 << 30)) json_fail(name);
    return (int64_t)value;
}

static void read_states(const Json *job) {
    Json *named = json_get(json_get(job, "specs"), "states");
    for (Json *at = named ? named->first : NULL; at; at = at->next) {
        if (at->kind != J_STRING || !at->name) json_fail("states");
        if (state_count == MOST_STATES) refuse("model", "it has more than %d states", MOST_STATES);
        states[state_count++] = (State){at->name, at->text};
    }
}

static void check_positions(void) {
    if (!state_count || in_count != 1 || ins[0].axes < 2)
        refuse("input", "only a model with states and one input of (samples, positions) runs position by position");
    if (given[0].shape[whole(0) ? 2 : 1] < 1) refuse("input", "%s: the samples have no positions", ins[0].name);
}

/* The input from a position on, which begins again after its last one. */
static Feed positions(const Feed *feed, int64_t from, int64_t count) {
    int64_t rows = feed->shape[0][0], length = feed->shape[0][1];
    int64_t width = elements(feed->shape[0] + 2, feed->axes[0] - 2) * (int64_t)TYPES[ins[0].type].width;
    Feed part = {.axes = {feed->axes[0]}, .bytes = {(size_t)(rows * count * width)}};
    memcpy(part.shape[0], feed->shape[0], sizeof part.shape[0]);
    part.shape[0][1] = count;
    part.data[0] = room(part.bytes[0]);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t k = 0; k < count; k++)
            memcpy(part.data[0] + (row * count + k) * width, feed->data[0] + (row * length + (from + k) % length) * width, (size_t)width);
    engine->bind(&part);
    return part;
}

/* The outputs of a call with `first` positions and of one with each further one, in one array each, to be freed. */
static void by_steps(const Feed *feed, int64_t first, Output *results) {
    int64_t rows = feed->shape[0][0], length = feed->shape[0][1];
    for (int64_t at = 0, count; at < length; at += count) {
        count = at ? 1 : first < length ? first : length;
        Feed part = positions(feed, at, count);
        engine->run(&part, !at);
        for (size_t i = 0; i < out_count; i++) {
            Output out;
            engine->output(i, &out);
            if (out.axes < 2 || out.shape[0] != rows || out.shape[1] != count)
                refuse("run", "output %s has no row for each position", outs[i].name);
            size_t width = (size_t)elements(out.shape + 2, out.axes - 2) * TYPES[out.type].width;
            if (!at) {
                results[i] = out;
                results[i].shape[1] = length;
                results[i].data = room((size_t)(rows * length) * width);
            } else if (out.axes != results[i].axes || memcmp(out.shape + 2, results[i].shape + 2, (size_t)(out.axes - 2) * sizeof *out.shape)) {
                refuse("run", "output %s changes its shape between positions", outs[i].name);
            }
            for (int64_t row = 0; row < rows; row++)
                memcpy((char *)results[i].data + (size_t)(row * length + at) * width, out.data + (size_t)(row * count) * width, (size_t)count * width);
        }
        engine->done();
        feed_free(&part);
    }
}

/* The index of the largest value, or of the first NaN, of `count` from `at`. */
static int64_t argmax(Type type, const char *data, int64_t at, int64_t count) {
    int64_t best = 0;
    double most = -INFINITY;
    for (int64_t k = 0; k < count; k++) {
        /* `get` is slow where a long double is computed in software */
        double value = type == T_F32 ? ((const float *)data)[at + k] : type == T_F16 ? (double)((const _Float16 *)data)[at + k] : (double)get(type, data, at + k);
        if (isnan(value)) return k;
        if (value > most) most = value, best = k;
    }
    return best;
}

static int64_t *tokens_room(const Feed *prompt, int64_t count) { return room((size_t)(prompt->shape[0][0] * count) * sizeof(int64_t)); }

/* The `count` tokens (rows, count) that follow a prompt, by greedy decoding; returns the time until the first was known. */
static int64_t request(const Feed *prompt, int64_t count, int64_t *made) {
    int64_t started = now(), first = 0, rows = prompt->shape[0][0];
    Feed next = positions(prompt, 0, 1);
    for (int64_t k = 0; k < count; k++) {
        Output out;
        engine->run(k ? &next : prompt, !k);
        engine->output(0, &out);
        if (out.axes != 3 || out.shape[0] != rows || out.shape[1] < 1 || out.shape[2] < 1)
            refuse("run", "output %s is not (samples, positions, words)", outs[0].name);
        for (int64_t row = 0; row < rows; row++) {
            int64_t last = (row + 1) * out.shape[1] - 1, token = argmax(out.type, out.data, last * out.shape[2], out.shape[2]);
            made[row * count + k] = token;
            if (!put(ins[0].type, next.data[0], row, token)) refuse("run", "%s cannot hold the token %lld", ins[0].name, (long long)token);
        }
        engine->done();
        if (!k) first = now() - started;
    }
    feed_free(&next);
    return first;
}

/* --- the outputs ------------------------------------------------------------------------------------------------ */

typedef struct {
    char *data;
    Type type;
    int axes;
    int64_t shape[MAX_AXES], per;
} Kept;

/* Write one output of a batch of `ran` samples, of which `taken` are real, to its file as floats, as in ../runner.py. */
static void keep(Kept *kept, const Spec *spec, Output out, const char *path, int64_t at, int64_t taken, int64_t ran, int64_t count) {
    Type type = spec->scale != 0 ? T_F32 : out.type;
    if (ran == 1 && !(out.axes && out.shape[0] == 1)) { /* the output belongs to one sample */
        memmove(out.shape + 1, out.shape, (size_t)out.axes * sizeof *out.shape);
        out.axes++;
    } else if (ran > 1 && (!out.axes || out.shape[0] != ran)) {
        refuse("run", "output %s: its first axis is not the batch", spec->name);
    }
    out.shape[0] = count;
    if (out.axes > MAX_AXES) refuse("run", "output %s has too many axes", spec->name);
    if (!kept->data) {
        kept->type = type;
        kept->axes = out.axes;
        memcpy(kept->shape, out.shape, sizeof kept->shape);
        kept->per = elements(out.shape + 1, out.axes - 1);
        kept->data = npy_create(path, type, out.shape, out.axes);
        if (!kept->data) refuse("run", "%s cannot be written: No space left on device?", path);
    } else if (kept->type != type || kept->axes != out.axes || memcmp(kept->shape, out.shape, (size_t)out.axes * sizeof *out.shape)) {
        refuse("run", "output %s changes its shape between samples", spec->name);
    }
    int64_t width = (int64_t)TYPES[type].width;
    char *to = kept->data + at * kept->per * width;
    if (spec->scale == 0) memcpy(to, out.data, (size_t)(taken * kept->per * width));
    else
        for (int64_t k = 0; k < taken * kept->per; k++)
            ((float *)(void *)to)[k] = ((float)get(out.type, out.data, k) - (float)spec->zero) * spec->scale;
}

/* What a job computes: the outputs, or of a model with states new tokens, or the outputs of calls with `stepwise`
 * positions and then with one each. */
static int64_t new_tokens, stepwise;
static const Spec TOKENS = {.name = "tokens", .type = T_I64};

static size_t result_count(void) { return new_tokens ? 1 : out_count; }
static const Spec *result_spec(size_t index) { return new_tokens ? &TOKENS : &outs[index]; }

static char *output_path(char *path, size_t room_, const char *folder, size_t index) {
    snprintf(path, room_, "%s/output%zu.npy", folder, index);
    return path;
}

static void read_outputs(const Json *wanted) {
    new_tokens = whole_number(wanted, "new_tokens");
    stepwise = new_tokens ? 0 : whole_number(wanted, "stepwise");
    if (new_tokens || stepwise) check_positions();
}

static void all_outputs(const char *folder) {
    int64_t count = sample_count(), size = fixed_batch();
    static Kept kept[MOST];
    size = size ? size : 1;
    for (int64_t at = 0; at < count; at += size) {
        int64_t taken = count - at < size ? count - at : size;
        Feed feed = feed_of(at, size, count);
        Output results[MOST];
        int64_t *made = new_tokens ? tokens_room(&feed, new_tokens) : NULL;
        if (new_tokens) {
            request(&feed, new_tokens, made);
            results[0] = (Output){T_I64, 2, {feed.shape[0][0], new_tokens}, (char *)made};
        } else if (stepwise) {
            by_steps(&feed, stepwise, results);
        } else {
            engine->run(&feed, 1);
            for (size_t i = 0; i < out_count; i++) engine->output(i, &results[i]);
        }
        for (size_t i = 0; i < result_count(); i++) {
            char path[4096];
            keep(&kept[i], result_spec(i), results[i], output_path(path, sizeof path, folder, i), at, taken, size, count);
            if (stepwise) free((char *)results[i].data);
        }
        if (!new_tokens && !stepwise) engine->done();
        feed_free(&feed);
        free(made);
    }
}

/* --- the times -------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static Feed calls[DISTINCT_BATCHES];
static int call_count;

/* Of a plan with new tokens, a call is a request: how many, where they are written, and when the last one had its first. */
static int64_t asked, *asked_tokens, first_token_ns;

static int64_t bind_calls(const Json *plan) {
    int64_t count = sample_count(), size = fixed_batch(), prompt = whole_number(plan, "prompt");
    size = size ? size : (int64_t)json_number(plan, "batch");
    asked = whole_number(plan, "new_tokens");
    if (asked) check_positions();
    if (!call_count)
        for (int64_t first = 0; first < count && call_count < DISTINCT_BATCHES; first += size) {
            Feed feed = feed_of(first, size, count);
            calls[call_count++] = asked ? positions(&feed, 0, prompt) : feed;
            if (asked) feed_free(&feed);
        }
    if (!call_count) refuse("input", "there are no samples");
    if (asked && !asked_tokens) asked_tokens = tokens_room(&calls[0], asked);
    return size;
}

static int64_t timed(int64_t index) {
    const Feed *call = &calls[index % call_count];
    int64_t before = now();
    if (asked) first_token_ns = request(call, asked, asked_tokens);
    else engine->run(call, 1);
    int64_t after = now();
    if (!asked) engine->done();
    return after - before;
}

/* Run for `seconds`, then until the medians of three blocks are within 3 %, or for ten times as long; the run count. */
static int64_t warm_up(double seconds, int *steady) {
    int64_t started = now(), runs = 0, *times = NULL, medians[3] = {0};
    size_t space = 0, blocks = 0;
    for (;;) {
        int64_t block = now();
        size_t used = 0;
        do {
            if (used == space && !(times = realloc(times, (space = space * 2 + 64) * sizeof *times))) refuse("memory", "out of memory");
            times[used++] = timed(runs++);
        } while (now() - block < 20000000);
        qsort(times, used, sizeof *times, by_size);
        medians[blocks++ % 3] = times[used / 2];
        double elapsed = (double)(now() - started) / 1e9;
        int64_t sorted[3] = {medians[0], medians[1], medians[2]};
        qsort(sorted, 3, sizeof *sorted, by_size);
        *steady = blocks >= 3 && (double)sorted[2] <= 1.03 * (double)sorted[0];
        if ((elapsed >= seconds && *steady) || elapsed >= 10 * seconds) break;
    }
    free(times);
    return runs;
}

static void steal(double *stolen, double *total) {
    double ticks[8] = {0};
    FILE *file = fopen("/proc/stat", "r");
    *stolen = *total = 0;
    if (!file) return;
    if (fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", ticks, ticks + 1, ticks + 2, ticks + 3, ticks + 4, ticks + 5, ticks + 6, ticks + 7) == 8) {
        *stolen = ticks[7];
        for (int i = 0; i < 8; i++) *total += ticks[i];
    }
    fclose(file);
}

static void write_times(FILE *file, const int64_t *times, int64_t count) {
    for (int64_t i = 0; i < count; i++) fprintf(file, i ? ", %lld" : "%lld", (long long)times[i]);
}

static void measure(FILE *file, const Json *plan) {
    int64_t size = bind_calls(plan), least = (int64_t)json_number(plan, "min_runs");
    int64_t first = timed(0), runs = 0, *times = NULL, *cpu_times = NULL, *first_times = NULL;
    int steady;
    int64_t warmups = warm_up(json_number(plan, "warmup_seconds"), &steady);
    size_t space = 0;
    double stolen, ticks, stolen_after, ticks_after, load = 0;
    steal(&stolen, &ticks);
    int64_t cpu = now_of(CLOCK_PROCESS_CPUTIME_ID), wall = now(), stop = wall + (int64_t)(json_number(plan, "seconds") * 1e9);
    do {
        if ((size_t)runs == space) {
            space = space * 2 + 1024;
            times = realloc(times, space * sizeof *times);
            cpu_times = realloc(cpu_times, space * sizeof *cpu_times);
            first_times = realloc(first_times, space * sizeof *first_times);
            if (!times || !cpu_times || !first_times) refuse("memory", "out of memory");
        }
        int64_t before = now_of(CLOCK_PROCESS_CPUTIME_ID);
        times[runs] = timed(runs);
        cpu_times[runs] = now_of(CLOCK_PROCESS_CPUTIME_ID) - before;
        first_times[runs++] = first_token_ns;
    } while (now() < stop || runs < least);
    cpu = now_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = now() - wall;
    steal(&stolen_after, &ticks_after);
    FILE *average = fopen("/proc/loadavg", "r");
    if (average) {
        if (fscanf(average, "%lf", &load) != 1) load = 0;
        fclose(average);
    }
    fprintf(file, ", \"first_ms\": %.6f, \"warmups\": %lld, \"steady\": %s, \"batch\": %lld, \"times_ns\": [", (double)first / 1e6,
            (long long)warmups, steady ? "true" : "false", (long long)size);
    write_times(file, times, runs);
    fprintf(file, "], \"cpu_ns\": [");
    write_times(file, cpu_times, runs);
    fprintf(file, "], \"first_token_ns\": [");
    write_times(file, first_times, asked ? runs : 0);
    fprintf(file, "], \"watch\": {\"cpu_share\": %.6f, \"steal_share\": %.6f, \"throttled\": 0, \"load_average\": %.2f}",
            (double)cpu / (double)wall, ticks_after > ticks ? (stolen_after - stolen) / (ticks_after - ticks) : 0, load);
    fprintf(file, ", \"energy_mj\": null, \"energy_source\": \"\"");
    free(times);
    free(cpu_times);
    free(first_times);
}

/* --- sustained load ------------------------------------------------------------------------------------------------ */

/* The largest valid number in the files of a pattern, in thousandths; NAN if there is none. */
static double largest(const char *pattern, double least, double most) {
    glob_t found;
    double best = NAN;
    if (glob(pattern, 0, NULL, &found)) return NAN;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        double value;
        FILE *file = fopen(found.gl_pathv[i], "r");
        if (!file) continue;
        if (fscanf(file, "%lf", &value) == 1 && value / 1000 > least && value / 1000 < most && !(value / 1000 <= best)) best = value / 1000;
        fclose(file);
    }
    globfree(&found);
    return best;
}

enum { WINDOWS = 4096, COLUMNS = 6 };
static double windows[COLUMNS][WINDOWS];

static void sustained(FILE *file, const Json *plan) {
    static const char *names[COLUMNS] = {"seconds", "p50_ms", "p90_ms", "inferences", "temperature_c", "frequency_mhz"};
    bind_calls(plan);
    int64_t start = now(), end = start + (int64_t)(json_number(plan, "seconds") * 1e9), total = 0, *times = NULL;
    int64_t window = (int64_t)(json_number(plan, "window") * 1e9);
    size_t space = 0;
    int count = 0;
    while (now() < end && count < WINDOWS) {
        int64_t opened = now(), stop = opened + window < end ? opened + window : end;
        size_t used = 0;
        do {
            if (used == space && !(times = realloc(times, (space = space * 2 + 1024) * sizeof *times))) refuse("memory", "out of memory");
            times[used++] = timed(total++);
        } while (now() < stop);
        qsort(times, used, sizeof *times, by_size);
        windows[0][count] = (double)((opened + now()) / 2 - start) / 1e9;
        windows[1][count] = (double)times[used / 2] / 1e6;
        windows[2][count] = (double)times[used * 9 / 10] / 1e6;
        windows[3][count] = (double)used;
        windows[4][count] = largest("/sys/class/thermal/thermal_zone*/temp", -40, 150);
        windows[5][count++] = largest("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq", 1, 1e5);
    }
    fprintf(file, ", \"sustained\": {");
    for (int column = 0; column < COLUMNS; column++) {
        fprintf(file, "\"%s\": [", names[column]);
        for (int i = 0; i < count; i++) {
            double value = windows[column][i];
            fprintf(file, i ? ", " : "");
            if (isnan(value)) fprintf(file, "null");
            else fprintf(file, column == 3 ? "%.0f" : "%.6f", value);
        }
        fprintf(file, "], ");
    }
    for (int column = 0; column < 2; column++) {
        fprintf(file, "\"%s\": [", column ? "power_w" : "throttled");
        for (int i = 0; i < count; i++) fprintf(file, i ? ", null" : "null");
        fprintf(file, "], ");
    }
    fprintf(file, "\"energy_mj\": null, \"energy_source\": \"\"}");
    free(times);
}

/* --- the job ---------------------------------------------------------------------------------------------------- */

static int64_t peak_rss_bytes(void) {
    char line[256];
    long long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %lld", &kilobytes) == 1) break;
    if (file) fclose(file);
    return kilobytes * 1024;
}

static Json *job_read(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file || fseek(file, 0, SEEK_END)) json_fail(path);
    long size = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)size + 1);
    if (fread(text, 1, (size_t)size, file) != (size_t)size) json_fail(path);
    fclose(file);
    Json *job;
    json_value(text, &job, 0);
    return job;
}

static void list_outputs(FILE *file, const char *folder) {
    for (size_t i = 0; i < result_count(); i++) {
        char path[4096];
        fprintf(file, i ? ", " : "");
        json_write(file, result_spec(i)->name);
        fprintf(file, ": ");
        json_write(file, output_path(path, sizeof path, folder, i));
    }
}

static void work(const Json *job) {
    Json *outputs = json_get(job, "outputs"), *inputs = json_get(job, "inputs");
    const char *names[MOST], *paths[MOST], *version = open_library(job);
    int64_t floor = peak_rss_bytes(), started = now();
    read_states(job);
    engine->load(path_in(job, "model"), (int)json_number(job, "threads"));
    double load_ms = (double)(now() - started) / 1e6;
    size_t count = 0;
    for (Json *at = inputs ? inputs->first : NULL; at && count < MOST; at = at->next, count++) {
        names[count] = at->name;
        paths[count] = at->text;
    }
    match(count, names, paths);
    char part[4096];
    FILE *file = result_open(part, sizeof part);
    fprintf(file, "{\"schema\": \"" SCHEMA "\", \"error\": null, \"load_ms\": %.6f, \"floor_rss_bytes\": %lld", load_ms, (long long)floor);
    if (json_get(job, "latency")) measure(file, json_get(job, "latency"));
    if (json_get(job, "sustained")) sustained(file, json_get(job, "sustained"));
    fprintf(file, ", \"outputs\": {");
    if (outputs) {
        read_outputs(outputs);
        all_outputs(json_text(outputs, "folder"));
        list_outputs(file, json_text(outputs, "folder"));
    }
    fprintf(file, "}, \"peak_rss_bytes\": %lld, \"facts\": {\"runtime_version\": ", (long long)peak_rss_bytes());
    json_write(file, version);
    fprintf(file, ", \"runner\": \"native\"%s}}\n", engine->details);
    result_close(file, part);
}

static void predict(const Json *job, const char *folder, size_t count, char **inputs) {
    open_library(job);
    read_states(job);
    engine->load(path_in(job, "model"), 1);
    match(count, NULL, (const char *const *)inputs);
    read_outputs(json_get(job, "outputs"));
    char *wanted = new_tokens ? getenv("NEW_TOKENS") : NULL, *end;
    if (wanted) {
        new_tokens = strtoll(wanted, &end, 10);
        if (*end || new_tokens < 1 || new_tokens > 1 << 20) refuse("input", "NEW_TOKENS is %s, not a number from 1 to %d", wanted, 1 << 20);
    }
    all_outputs(folder);
    char part[4096];
    FILE *file = result_open(part, sizeof part);
    fprintf(file, "{\"schema\": \"" SCHEMA "\", \"error\": null, \"outputs\": {");
    list_outputs(file, folder);
    fprintf(file, "}}\n");
    result_close(file, part);
}

static int link_(const char *to, const char *path) {
    char part[4096];
    snprintf(part, sizeof part, "%s.part", path);
    unlink(part);
    if (!symlink(to, part) && !rename(part, path)) return 0;
    perror(path);
    return 1;
}

int main(int count, char **words) {
    if (count == 4 && !strcmp(words[1], "--link")) return link_(words[2], words[3]);
    if (count >= 5 && !strcmp(words[1], "--predict")) {
        char path[4096];
        snprintf(path, sizeof path, "%s/result.json", words[3]);
        result_path = path;
        job_path = words[2];
        predict(job_read(words[2]), words[3], (size_t)count - 4, words + 4);
        return 0;
    }
    if (count != 3) {
        fprintf(stderr, "usage: %s JOB RESULT | --predict JOB OUT INPUT.npy … | --link TO PATH\n", words[0]);
        return 2;
    }
    job_path = words[1];
    result_path = words[2];
    Json *job = job_read(words[1]);
    alarm((unsigned)json_number(job, "limit")); /* ends the process even if the connection is lost */
    work(job);
    return 0;
}
