/* A JSON text (RFC 8259) as a tree, for the job; and strings as JSON, for the result. */
#ifndef EDGEKIT_JSON_H
#define EDGEKIT_JSON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Json {
    enum { J_NULL, J_BOOL, J_NUMBER, J_STRING, J_LIST, J_OBJECT } kind;
    double number;        /* of a boolean, too */
    char *text;           /* of a string */
    char *name;           /* in an object */
    struct Json *first, *next;
} Json;

static inline void json_fail(const char *what) {
    fprintf(stderr, "the job cannot be read: %s\n", what);
    exit(2);
}

static inline const char *json_space(const char *at) {
    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t') at++;
    return at;
}

static inline unsigned json_hex(const char *at) {
    char four[5] = {0}, *end;
    strncpy(four, at, 4);
    unsigned long value = strtoul(four, &end, 16);
    if (end != four + 4) json_fail("a wrong \\u");
    return (unsigned)value;
}

static inline char *json_utf8(char *to, unsigned c) {
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 63));
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    }
    return to;
}

static inline const char *json_string(const char *at, char **out) {
    char *to = *out = malloc(strlen(at) + 1);
    if (*at++ != '"' || !to) json_fail("a string is missing");
    while (*at != '"') {
        if (!*at) json_fail("a string has no end");
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        char c = *++at;
        if (c == 'u') {
            unsigned code = json_hex(at + 1);
            at += 5;
            if (code >= 0xd800 && code < 0xdc00 && at[0] == '\\' && at[1] == 'u') {
                code = 0x10000 + ((code - 0xd800) << 10) + (json_hex(at + 2) - 0xdc00);
                at += 6;
            }
            to = json_utf8(to, code);
            continue;
        }
        *to++ = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
        if (c) at++;
    }
    *to = 0;
    return at + 1;
}

static inline const char *json_value(const char *at, Json **out, int depth) {
    Json *made = *out = calloc(1, sizeof *made), **last = &made->first;
    if (!made || depth > 64) json_fail("it is too deep");
    at = json_space(at);
    if (*at == '"') {
        made->kind = J_STRING;
        return json_string(at, &made->text);
    }
    if (*at == '{' || *at == '[') {
        char end = *at == '{' ? '}' : ']';
        made->kind = *at == '{' ? J_OBJECT : J_LIST;
        at = json_space(at + 1);
        while (*at != end) {
            char *name = NULL;
            if (made->kind == J_OBJECT) {
                at = json_space(json_string(at, &name));
                if (*at++ != ':') json_fail("a colon is missing");
            }
            at = json_space(json_value(at, last, depth + 1));
            (*last)->name = name;
            last = &(*last)->next;
            if (*at == ',') at = json_space(at + 1);
            else if (*at != end) json_fail("a comma is missing");
        }
        return at + 1;
    }
    if (!strncmp(at, "null", 4)) return at + 4;
    made->kind = J_BOOL;
    if (!strncmp(at, "true", 4)) return made->number = 1, at + 4;
    if (!strncmp(at, "false", 5)) return at + 5;
    char *end;
    made->kind = J_NUMBER;
    made->number = strtod(at, &end);
    if (end == at) json_fail("a value is missing");
    return end;
}

static inline Json *json_get(const Json *from, const char *name) {
    for (Json *at = from ? from->first : NULL; at; at = at->next)
        if (at->name && !strcmp(at->name, name)) return at->kind == J_NULL ? NULL : at;
    return NULL;
}

static inline double json_number(const Json *from, const char *name) {
    Json *found = json_get(from, name);
    if (!found || (found->kind != J_NUMBER && found->kind != J_BOOL)) json_fail(name);
    return found->number;
}

static inline const char *json_text(const Json *from, const char *name) {
    Json *found = json_get(from, name);
    if (!found || found->kind != J_STRING) json_fail(name);
    return found->text;
}

static inline void json_write(FILE *file, const char *text) {
    fputc('"', file);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\') fprintf(file, "\\%c", *at);
        else if (*at < 0x20) fprintf(file, "\\u%04x", *at);
        else fputc(*at, file);
    }
    fputc('"', file);
}

#endif
