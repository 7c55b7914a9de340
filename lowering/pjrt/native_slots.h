/* The table of slots: arguments unpacked for Python handlers, results packed, exceptions turned into errors. */
#pragma once

#include "native_events.h"

enum { SLOT_COUNT = 160, FIELD_COUNT = 24, FIRST_FIELD = 16 };

typedef struct {
    uint16_t offset;
    char code; /* p z u: 64 bits unsigned, l: signed, i: int, b: bool, h: the Python owner of a handle */
} Field;

typedef enum { MISSING, RELEASE, GETTER, PYTHON } Kind;

typedef struct {
    Kind kind;
    bool ends_life; /* X_Destroy or X_Delete: jaxlib takes no error from them */
    PyObject *handler;
    int input_count, output_count;
    Field inputs[FIELD_COUNT], outputs[FIELD_COUNT];
    char name[64];
} Slot;

static Slot slots[SLOT_COUNT];
static PyObject *describe_exception;

/* ---- packing and unpacking; fields beyond the caller's struct_size read as zero and are never written ---- */

static size_t field_width(char code) { return code == 'b' ? 1 : code == 'i' ? 4 : 8; }
static bool has_field(const char *structure, Field field) {
    return field.offset + field_width(field.code) <= *(const size_t *)structure;
}

static PyObject *read_field(const char *structure, Field field) {
    const void *place = structure + field.offset;
    bool present = has_field(structure, field);
    switch (field.code) {
        case 'i': return PyLong_FromLong(present ? *(const int32_t *)place : 0);
        case 'b': return PyBool_FromLong(present && *(const bool *)place);
        case 'l': return PyLong_FromLongLong(present ? *(const int64_t *)place : 0);
        case 'h': {
            Handle *handle = present ? *(Handle *const *)place : NULL;
            return Py_NewRef(handle ? handle->owner : Py_None);
        }
        default: return PyLong_FromUnsignedLongLong(present ? *(const uint64_t *)place : 0);
    }
}

static void store(char *structure, Field field, uint64_t value) {
    if (!has_field(structure, field)) return;
    void *place = structure + field.offset;
    if (field.code == 'i') *(int32_t *)place = (int32_t)value;
    else if (field.code == 'b') *(bool *)place = value != 0;
    else *(uint64_t *)place = value;
}

/* A result of None leaves the caller's field as it is. */
static bool write_results(char *structure, const Slot *slot, PyObject *result) {
    bool single = slot->output_count == 1;
    if (slot->output_count == 0) return true;
    if (!single && (!PyTuple_Check(result) || PyTuple_Size(result) != slot->output_count)) {
        PyErr_Format(PyExc_TypeError, "%s must return %d values", slot->name, slot->output_count);
        return false;
    }
    for (int i = 0; i < slot->output_count; i++) {
        PyObject *item = single ? result : PyTuple_GetItem(result, i);
        if (item == Py_None) continue;
        uint64_t value = PyLong_AsUnsignedLongLongMask(item);
        if (value == (uint64_t)-1 && PyErr_Occurred()) return false;
        store(structure, slot->outputs[i], value);
    }
    return true;
}

static Error *error_from_exception(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) PyException_SetTraceback(value, traceback);
    bool interrupted = PyErr_GivenExceptionMatches(type, PyExc_KeyboardInterrupt);
    PyObject *described = PyObject_CallFunctionObjArgs(describe_exception, value, NULL);
    int code = CODE_INTERNAL;
    char *text = "an exception that could not be described";
    Py_ssize_t size = (Py_ssize_t)strlen(text);
    PyObject *message = NULL;
    bool parsed = described && PyArg_ParseTuple(described, "iO", &code, &message);
    if (!parsed || PyBytes_AsStringAndSize(message, &text, &size) < 0) PyErr_Clear();
    Error *error = new_error(code, text, (size_t)size);
    PyErr_Clear();
    Py_XDECREF(described);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    if (interrupted) PyErr_SetInterrupt(); /* jaxlib turns errors into its own type: interrupt again once it has returned */
    return error;
}

static Error *call_with_lock(const Slot *slot, char *arguments) {
    PyObject *inputs = PyTuple_New(slot->input_count);
    for (int i = 0; inputs && i < slot->input_count; i++) {
        PyObject *value = read_field(arguments, slot->inputs[i]);
        if (!value || PyTuple_SetItem(inputs, i, value) < 0) Py_CLEAR(inputs);
    }
    PyObject *result = inputs ? PyObject_Call(slot->handler, inputs, NULL) : NULL;
    bool succeeded = result && write_results(arguments, slot, result);
    Error *error = succeeded ? NULL : error_from_exception();
    Py_XDECREF(inputs);
    Py_XDECREF(result);
    return error;
}

static Error *call_python(const Slot *slot, char *arguments) {
    if (!enter()) return slot->ends_life ? NULL : leaving_error();
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (atomic_load(&garbage)) collect();
    Error *error = call_with_lock(slot, arguments);
    PyErr_Restore(type, value, traceback);
    PyGILState_Release(state);
    leave();
    if (!error || !slot->ends_life) return error;
    free(error); /* it was logged; jaxlib would end the process */
    return NULL;
}

static Error *answer(const Slot *slot, char *arguments) {
    const Handle *handle = ARGUMENT(Handle *, FIRST_FIELD);
    for (int i = 0; i < slot->output_count; i++) store(arguments, slot->outputs[i], handle->answers[slot->inputs[i].offset]);
    return NULL;
}

static Error *missing(const Slot *slot) {
    char text[160];
    int size = PyOS_snprintf(text, sizeof text, "PJRT_%s is not implemented by the platform vulkan", slot->name);
    return new_error(CODE_UNIMPLEMENTED, text, (size_t)size);
}

static void *dispatch(int index, char *arguments) {
    const Slot *slot = &slots[index];
    switch (slot->kind) {
        case PYTHON: return call_python(slot, arguments);
        case GETTER: return answer(slot, arguments);
        case RELEASE: release(ARGUMENT(Handle *, FIRST_FIELD)); return NULL;
        default: return missing(slot);
    }
}

/* ---- the table: one function for each slot, numbered from 100 so that no literal is octal ---- */

typedef void *(*SlotFunction)(void *);
#define ONE(n) static void *slot_##n(void *arguments) { return dispatch(n - 100, arguments); }
#define NAME(n) slot_##n,
#define TEN(each, t) each(t##0) each(t##1) each(t##2) each(t##3) each(t##4) each(t##5) each(t##6) each(t##7) each(t##8) each(t##9)
#define ALL(e) TEN(e, 10) TEN(e, 11) TEN(e, 12) TEN(e, 13) TEN(e, 14) TEN(e, 15) TEN(e, 16) TEN(e, 17) \
               TEN(e, 18) TEN(e, 19) TEN(e, 20) TEN(e, 21) TEN(e, 22) TEN(e, 23) TEN(e, 24) TEN(e, 25)
ALL(ONE)
static const SlotFunction slot_functions[SLOT_COUNT] = {ALL(NAME)};

static const struct { const char *name; SlotFunction function; } native_slots[] = {
    {"Error_Destroy", slot_error_destroy}, {"Error_Message", slot_error_message}, {"Error_GetCode", slot_error_code},
    {"Error_ForEachPayload", slot_nothing}, {"Plugin_Initialize", slot_nothing},
    {"Event_Destroy", slot_event_destroy}, {"Event_IsReady", slot_event_is_ready}, {"Event_Error", slot_event_error},
    {"Event_Await", slot_event_await}, {"Event_OnReady", slot_event_on_ready},
};

static struct Table {
    size_t struct_size;
    void *extension;
    size_t version_size;
    void *version_extension;
    int major, minor;
    SlotFunction functions[SLOT_COUNT];
} table;
