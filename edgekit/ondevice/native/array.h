/* Arrays: numpy's types, `.npy` files (NEP 1), and conversion from one type to another. */
#ifndef EDGEKIT_ARRAY_H
#define EDGEKIT_ARRAY_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_AXES = 16 };

typedef enum { T_BOOL, T_F16, T_F32, T_F64, T_I8, T_I16, T_I32, T_I64, T_U8, T_U16, T_U32, T_U64, T_NONE } Type;

static const struct {
    const char *name, *code;
    size_t width;
} TYPES[] = {
    {"bool", "|b1", 1},  {"float16", "<f2", 2}, {"float32", "<f4", 4}, {"float64", "<f8", 8},
    {"int8", "|i1", 1},  {"int16", "<i2", 2},   {"int32", "<i4", 4},   {"int64", "<i8", 8},
    {"uint8", "|u1", 1}, {"uint16", "<u2", 2},  {"uint32", "<u4", 4},  {"uint64", "<u8", 8},
};

typedef struct {
    Type type;
    int axes;
    int64_t shape[MAX_AXES];
    char *data;
} Array;

static inline int64_t elements(const int64_t *shape, int axes) {
    int64_t count = 1;
    for (int i = 0; i < axes; i++) count *= shape[i];
    return count;
}

/* Map a file; returns "" or an error message. */
static inline const char *npy_read(const char *path, Array *out) {
    int file = open(path, O_RDONLY);
    struct stat found;
    if (file < 0 || fstat(file, &found) || found.st_size < 16) return "it cannot be opened";
    char *at = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (at == MAP_FAILED) return "it cannot be mapped";
    if (memcmp(at, "\x93NUMPY", 6) || (at[6] != 1 && at[6] != 2)) return "it is no .npy file";
    size_t start = at[6] == 1 ? 10 : 12;
    size_t length = (unsigned char)at[8] | (size_t)(unsigned char)at[9] << 8;
    if (at[6] == 2) length |= (size_t)(unsigned char)at[10] << 16 | (size_t)(unsigned char)at[11] << 24;
    if (start + length > (size_t)found.st_size || length > 65536) return "its header is damaged";
    char *head = calloc(1, length + 1);
    memcpy(head, at + start, length);
    char *descr = strstr(head, "'descr': '"), *shape = strstr(head, "'shape': (");
    if (!descr || !shape || !strstr(head, "'fortran_order': False")) return "its header is of another kind";
    out->type = T_NONE;
    for (int i = 0; i < T_NONE; i++)
        if (!strncmp(descr + 10, TYPES[i].code, 3)) out->type = (Type)i;
    if (out->type == T_NONE) return "its type is no number";
    out->axes = 0;
    for (char *axis = shape + 10; *axis && *axis != ')' && out->axes < MAX_AXES;) {
        out->shape[out->axes++] = strtoll(axis, &axis, 10);
        while (*axis == ',' || *axis == ' ') axis++;
    }
    free(head);
    out->data = at + start + length;
    size_t bytes = (size_t)elements(out->shape, out->axes) * TYPES[out->type].width;
    return start + length + bytes > (size_t)found.st_size ? "it is shorter than its header says" : "";
}

/* A new file of the array's size, mapped; NULL on failure. */
static inline char *npy_create(const char *path, Type type, const int64_t *shape, int axes) {
    char head[1024];
    int used = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (", TYPES[type].code);
    for (int i = 0; i < axes; i++) used += snprintf(head + used, sizeof head - (size_t)used, "%lld, ", (long long)shape[i]);
    used += snprintf(head + used, sizeof head - (size_t)used, "), }");
    while ((10 + used + 1) % 64) head[used++] = ' ';
    head[used++] = '\n';
    size_t total = 10 + (size_t)used + (size_t)elements(shape, axes) * TYPES[type].width;
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, (off_t)total)) return NULL;
    char *at = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at == MAP_FAILED) return NULL;
    memcpy(at, "\x93NUMPY\x01\x00", 8);
    at[8] = (char)(used & 255);
    at[9] = (char)(used >> 8);
    memcpy(at + 10, head, (size_t)used);
    return at + 10 + used;
}

static inline long double get(Type type, const char *at, int64_t index) {
    switch (type) {
    case T_BOOL: return ((const uint8_t *)at)[index] != 0;
    case T_F16: return (long double)(float)((const _Float16 *)at)[index];
    case T_F32: return ((const float *)at)[index];
    case T_F64: return ((const double *)at)[index];
    case T_I8: return ((const int8_t *)at)[index];
    case T_I16: return ((const int16_t *)at)[index];
    case T_I32: return ((const int32_t *)at)[index];
    case T_I64: return ((const int64_t *)at)[index];
    case T_U8: return ((const uint8_t *)at)[index];
    case T_U16: return ((const uint16_t *)at)[index];
    case T_U32: return ((const uint32_t *)at)[index];
    case T_U64: return ((const uint64_t *)at)[index];
    default: return 0;
    }
}

/* Is the value stored exactly? Checked for integers only; floats are rounded. */
static inline int put(Type type, char *at, int64_t index, long double value) {
    static const long double low[] = {0, 0, 0, 0, -128, -32768, -2147483648.0L, -9223372036854775808.0L, 0, 0, 0, 0};
    static const long double high[] = {1,           0,   0,     0,           127, 32767, 2147483647.0L, 9223372036854775807.0L,
                                       255, 65535, 4294967295.0L, 18446744073709551615.0L};
    if (type == T_F16) return ((_Float16 *)at)[index] = (_Float16)(float)value, 1;
    if (type == T_F32) return ((float *)at)[index] = (float)value, 1;
    if (type == T_F64) return ((double *)at)[index] = (double)value, 1;
    if (type == T_BOOL) return ((uint8_t *)at)[index] = value != 0, 1;
    if (!(value >= low[type] && value <= high[type])) return 0;
    switch (type) {
    case T_I8: ((int8_t *)at)[index] = (int8_t)value; break;
    case T_I16: ((int16_t *)at)[index] = (int16_t)value; break;
    case T_I32: ((int32_t *)at)[index] = (int32_t)value; break;
    case T_I64: ((int64_t *)at)[index] = (int64_t)value; break;
    case T_U8: ((uint8_t *)at)[index] = (uint8_t)value; break;
    case T_U16: ((uint16_t *)at)[index] = (uint16_t)value; break;
    case T_U32: ((uint32_t *)at)[index] = (uint32_t)value; break;
    default: ((uint64_t *)at)[index] = (uint64_t)value; break;
    }
    return get(type, at, index) == value;
}

#endif
