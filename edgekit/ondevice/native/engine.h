/* The interface of a runtime: one Engine each, around a C library that is loaded when the job names it. */
#ifndef EDGEKIT_ENGINE_H
#define EDGEKIT_ENGINE_H

#include "array.h"

enum { MOST = 64, MOST_STATES = 512 };

typedef struct {
    const char *name;
    Type type;
    int axes;
    int64_t shape[MAX_AXES]; /* -1: dynamic */
    float scale;             /* if values are stored as integers: scale * (stored - zero); else 0 */
    long long zero;
} Spec;

/* An input, and the output that is its next value: a decoder's cache. */
typedef struct {
    const char *in, *out;
} State;

/* One batch of every input, in order; `values` belong to the engine. ONNX Runtime reads `data` at every run. */
typedef struct {
    char *data[MOST];
    size_t bytes[MOST];
    int axes[MOST];
    int64_t shape[MOST][MAX_AXES];
    void *values[MOST];
} Feed;

typedef struct {
    Type type;
    int axes;
    int64_t shape[MAX_AXES + 1];
    const char *data;
} Output;

typedef struct {
    const char *name;    /* edgekit's name of the runtime */
    const char *details; /* more members of the result's facts, as JSON */
    const char *(*open)(void *library, const char *version); /* returns its version */
    void (*load)(const char *model, int threads);            /* fills ins and outs, without the states */
    void (*bind)(Feed *feed);
    void (*run)(const Feed *feed, int fresh); /* fresh: from empty states; else from those of the last run */
    void (*output)(size_t index, Output *out); /* of the last run, until `done` */
    void (*done)(void);
    void (*unbind)(Feed *feed);
} Engine;

extern const Engine onnxruntime, litert;
extern Spec ins[MOST], outs[MOST];
extern State states[MOST_STATES];
extern size_t in_count, out_count, state_count;

/* Fail the job; `kind` is missing, model, input, run or memory, as in ../runner.py. */
_Noreturn void refuse(const char *kind, const char *format, ...);
void *room(size_t bytes);

#endif
