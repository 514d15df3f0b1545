/* What the runner asks of a runtime: one of these each, around a C library that is loaded when the job names it. */
#ifndef EDGEKIT_ENGINE_H
#define EDGEKIT_ENGINE_H

#include "array.h"

enum { MOST = 64 };

typedef struct {
    const char *name;
    Type type;
    int axes;
    int64_t shape[MAX_AXES]; /* -1: open */
    float scale;             /* where numbers are stored as integers: scale * (stored - zero); else 0 */
    long long zero;
} Spec;

/* One batch of every input, in their order; `values` are the engine's own. */
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
    const char *name;    /* as edgekit calls the runtime */
    const char *details; /* more of the result's facts, as JSON's members */
    const char *(*open)(void *library, const char *version); /* the version it has */
    void (*load)(const char *model, int threads);            /* fills ins and outs */
    void (*bind)(Feed *feed);
    void (*run)(const Feed *feed);
    void (*output)(size_t index, Output *out); /* of the last run, until `done` */
    void (*done)(void);
    void (*unbind)(Feed *feed);
} Engine;

extern const Engine onnxruntime, litert;
extern Spec ins[MOST], outs[MOST];
extern size_t in_count, out_count;

/* The job cannot be done; `kind` is missing, model, input, run or memory, as in ../runner.py. */
_Noreturn void refuse(const char *kind, const char *format, ...);
void *room(size_t bytes);

#endif
