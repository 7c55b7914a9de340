/* What jaxlib holds pointers to: errors, handles of Python objects, and how handles are given back. */
#pragma once

/* Formats with '#' are avoided: built by a newer Python they mean something else in an older one. */
#include <Python.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* PyErr_Fetch is what the limited API of 3.11 has */
#endif

enum { ANSWER_COUNT = 8 };
enum { CODE_INTERNAL = 13, CODE_UNIMPLEMENTED = 12, CODE_UNAVAILABLE = 14 };

/* ---- objects that jaxlib sees as opaque pointers; the framework reads the first word of errors and memories ---- */

typedef struct Handle {
    const void *functions;
    PyObject *owner;
    uint64_t answers[ANSWER_COUNT];
    struct Handle *next;
} Handle;

typedef struct {
    const void *functions;
    int code;
    size_t size;
    char text[];
} Error;

static atomic_llong live_handles;

/* ---- errors ---- */

static void error_destroy(Error *error) { free(error); }
static void error_message(const Error *error, const char **text, size_t *size) { *text = error->text; *size = error->size; }
static int error_code(const Error *error) { return error->code; }
static void error_payloads(const Error *error, void *visitor, void *user) { (void)error; (void)visitor; (void)user; }

static const struct {
    size_t struct_size, instance_size;
    void *extension;
    void (*destroy)(Error *);
    void (*message)(const Error *, const char **, size_t *);
    int (*code)(const Error *);
    void (*payloads)(const Error *, void *, void *);
} error_functions = {56, sizeof(Error), NULL, error_destroy, error_message, error_code, error_payloads};

static Error *new_error(int code, const char *text, size_t size) {
    Error *error = malloc(sizeof(Error) + size + 1);
    if (!error) abort(); /* an answer of NULL would mean success */
    error->functions = &error_functions;
    error->code = code;
    error->size = size;
    memcpy(error->text, text, size);
    error->text[size] = 0;
    return error;
}

static Error *copy_error(const Error *error) { return error ? new_error(error->code, error->text, error->size) : NULL; }

#define ARGUMENT(type, offset) (*(type *)((char *)arguments + (offset)))

static void *slot_error_destroy(void *arguments) { free(ARGUMENT(Error *, 16)); return NULL; }
static void *slot_error_message(void *arguments) {
    error_message(ARGUMENT(Error *, 16), &ARGUMENT(const char *, 24), &ARGUMENT(size_t, 32));
    return NULL;
}
static void *slot_error_code(void *arguments) { ARGUMENT(int, 24) = ARGUMENT(Error *, 16)->code; return NULL; }
static void *slot_nothing(void *arguments) { (void)arguments; return NULL; }

/* ---- data that the framework attaches to memories ---- */

typedef struct Attachment {
    const void *memory, *key;
    void *data;
    struct Attachment *next;
} Attachment;

static pthread_mutex_t attachment_lock = PTHREAD_MUTEX_INITIALIZER;
static Attachment *attachments;

static Attachment *find_attachment(const void *memory, const void *key) {
    Attachment *found = attachments;
    while (found && (found->memory != memory || found->key != key)) found = found->next;
    return found;
}

static void *get_attachment(const void *memory, const void *key) {
    pthread_mutex_lock(&attachment_lock);
    Attachment *found = find_attachment(memory, key);
    void *data = found ? found->data : NULL;
    pthread_mutex_unlock(&attachment_lock);
    return data;
}

static void set_attachment(const void *memory, const void *key, void *data, void (*destroy)(void *)) {
    (void)destroy; /* memories live as long as the process */
    pthread_mutex_lock(&attachment_lock);
    Attachment *found = find_attachment(memory, key);
    if (!found && (found = calloc(1, sizeof(Attachment)))) {
        *found = (Attachment){memory, key, NULL, attachments};
        attachments = found;
    }
    if (found) found->data = data;
    pthread_mutex_unlock(&attachment_lock);
}

static const struct {
    size_t struct_size;
    void *extension;
    size_t instance_size;
    void *(*get)(const void *, const void *);
    void (*set)(const void *, const void *, void *, void (*)(void *));
} memory_functions = {40, NULL, sizeof(Handle), get_attachment, set_attachment};

/* ---- releasing handles: pushed here, dropped by the next call or by the reaper thread ---- */

static _Atomic(Handle *) garbage;
static pthread_mutex_t garbage_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t garbage_arrived = PTHREAD_COND_INITIALIZER;
static atomic_bool reaper_sleeps;
static bool reaper_stops;

static void wake_reaper(void) {
    if (!atomic_exchange(&reaper_sleeps, false)) return;
    pthread_mutex_lock(&garbage_lock);
    pthread_cond_signal(&garbage_arrived);
    pthread_mutex_unlock(&garbage_lock);
}

static void release(Handle *handle) {
    if (!handle) return;
    handle->next = atomic_load(&garbage);
    while (!atomic_compare_exchange_weak(&garbage, &handle->next, handle)) {}
    wake_reaper();
}

static void collect(void) {
    Handle *handle = atomic_exchange(&garbage, NULL);
    while (handle) {
        Handle *next = handle->next;
        Py_DECREF(handle->owner);
        free(handle);
        atomic_fetch_sub(&live_handles, 1);
        handle = next;
    }
}
