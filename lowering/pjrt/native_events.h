/* Entering Python safely, and events, which are waited for and completed without it. */
#pragma once

#include "native_objects.h"

/* ---- entering Python ---- */

static pthread_t main_thread;
static atomic_bool leaving;
static atomic_int calls_inside;

/* Other threads must be out before finalisation starts: PyGILState_Ensure would end them inside frames of C++. */
static bool enter(void) {
    atomic_fetch_add(&calls_inside, 1);
    if (Py_IsInitialized() && (!atomic_load(&leaving) || pthread_equal(pthread_self(), main_thread))) return true;
    atomic_fetch_sub(&calls_inside, 1);
    return false;
}

static void leave(void) { atomic_fetch_sub(&calls_inside, 1); }

static Error *leaving_error(void) {
    static const char text[] = "the process is exiting; the platform vulkan takes no more calls";
    return new_error(CODE_UNAVAILABLE, text, sizeof text - 1);
}

/* ---- events ---- */

typedef void (*ReadyCallback)(Error *error, void *user);

typedef struct Waiter {
    ReadyCallback callback;
    void *user;
    struct Waiter *next;
} Waiter;

typedef struct {
    atomic_int references; /* one of jaxlib, one of whoever completes the event */
    bool done;
    Error *error;
    Waiter *waiters;
} Event;

static pthread_mutex_t event_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t event_changed = PTHREAD_COND_INITIALIZER;
static Event ready_event = {.references = 1, .done = true};

static void drop_event(Event *event) {
    if (event == NULL || event == &ready_event || atomic_fetch_sub(&event->references, 1) > 1) return;
    free(event->error);
    free(event);
}

static bool is_done(Event *event) {
    if (event == &ready_event) return true;
    pthread_mutex_lock(&event_lock);
    bool done = event->done;
    pthread_mutex_unlock(&event_lock);
    return done;
}

static void complete_event(Event *event, Error *error) {
    pthread_mutex_lock(&event_lock);
    event->error = error;
    event->done = true;
    Waiter *waiter = event->waiters;
    event->waiters = NULL;
    pthread_cond_broadcast(&event_changed);
    pthread_mutex_unlock(&event_lock);
    while (waiter) {
        Waiter *next = waiter->next;
        waiter->callback(copy_error(error), waiter->user);
        free(waiter);
        waiter = next;
    }
    drop_event(event);
}

static void *slot_event_destroy(void *arguments) { drop_event(ARGUMENT(Event *, 16)); return NULL; }
static void *slot_event_is_ready(void *arguments) { ARGUMENT(bool, 24) = is_done(ARGUMENT(Event *, 16)); return NULL; }
static void *slot_event_error(void *arguments) { return copy_error(ARGUMENT(Event *, 16)->error); }

static void *slot_event_await(void *arguments) {
    Event *event = ARGUMENT(Event *, 16);
    if (is_done(event)) return copy_error(event->error);
    if (!enter()) return leaving_error();
    /* Whoever completes the event needs the interpreter lock, which the caller may or may not hold. */
    PyGILState_STATE state = PyGILState_Ensure();
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&event_lock);
    while (!event->done) pthread_cond_wait(&event_changed, &event_lock);
    pthread_mutex_unlock(&event_lock);
    Py_END_ALLOW_THREADS
    PyGILState_Release(state);
    leave();
    return copy_error(event->error);
}

static void *slot_event_on_ready(void *arguments) {
    Event *event = ARGUMENT(Event *, 16);
    ReadyCallback callback = ARGUMENT(ReadyCallback, 24);
    void *user = ARGUMENT(void *, 32);
    Waiter *waiter = NULL;
    if (event != &ready_event) {
        waiter = malloc(sizeof(Waiter));
        if (!waiter) abort();
        pthread_mutex_lock(&event_lock);
        if (!event->done) {
            *waiter = (Waiter){callback, user, event->waiters};
            event->waiters = waiter;
            pthread_mutex_unlock(&event_lock);
            return NULL;
        }
        pthread_mutex_unlock(&event_lock);
        free(waiter);
    }
    callback(copy_error(event->error), user);
    return NULL;
}
