/* The native part of the PJRT plugin: the table of slots and the few answers that must not need Python.
 *
 *   jaxlib --> slot --> release, getter, event, error      answered here, without the interpreter lock
 *                   \-> Python handler                     arguments unpacked, results packed, exceptions turned into errors
 *
 * Why native at all: jaxlib destroys buffers, events and errors from object destructors, also while a Python exception is
 * pending or after the interpreter is gone, and it asks the same constant getters on every call. */
#include "native_slots.h"

/* ---- what the Python side calls ---- */

static bool parse_fields(PyObject *sequence, Field *fields, int *count) {
    Py_ssize_t size = PySequence_Size(sequence);
    if (size < 0) return false;
    if (size > FIELD_COUNT) {
        PyErr_SetString(PyExc_ValueError, "too many fields");
        return false;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *pair = PySequence_GetItem(sequence, i);
        int offset = 0, code = 0;
        bool parsed = pair && PyArg_ParseTuple(pair, "iC", &offset, &code);
        Py_XDECREF(pair);
        if (!parsed) return false;
        fields[i] = (Field){(uint16_t)offset, (char)code};
    }
    *count = (int)size;
    return true;
}

static Slot *slot_at(int index) {
    if (index >= 0 && index < SLOT_COUNT) return &slots[index];
    PyErr_SetString(PyExc_IndexError, "no such slot");
    return NULL;
}

/* install(names, major, minor, describe): fill the table and return it as the capsule that jaxlib loads. */
static PyObject *py_install(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *names, *describe;
    int major, minor;
    if (!PyArg_ParseTuple(arguments, "OiiO", &names, &major, &minor, &describe)) return NULL;
    Py_ssize_t count = PySequence_Size(names);
    if (count < 0 || !slot_at((int)count - 1)) return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PySequence_GetItem(names, i);
        const char *text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
        if (text) PyOS_snprintf(slots[i].name, sizeof slots[i].name, "%s", text);
        Py_XDECREF(name);
        if (!text) return NULL;
        slots[i].ends_life = strstr(slots[i].name, "_Destroy") || strstr(slots[i].name, "_Delete");
        table.functions[i] = slot_functions[i];
        for (size_t k = 0; k < sizeof native_slots / sizeof native_slots[0]; k++)
            if (!strcmp(native_slots[k].name, slots[i].name)) table.functions[i] = native_slots[k].function;
    }
    describe_exception = Py_NewRef(describe);
    table.struct_size = offsetof(struct Table, functions) + (size_t)count * sizeof(SlotFunction);
    table.version_size = 24;
    table.major = major;
    table.minor = minor;
    return PyCapsule_New(&table, "pjrt_c_api", NULL);
}

/* handler(index, callable, inputs, outputs) */
static PyObject *py_handler(PyObject *module, PyObject *arguments) {
    (void)module;
    int index;
    PyObject *callable, *inputs, *outputs;
    if (!PyArg_ParseTuple(arguments, "iOOO", &index, &callable, &inputs, &outputs)) return NULL;
    Slot *slot = slot_at(index);
    if (!slot || !parse_fields(inputs, slot->inputs, &slot->input_count)) return NULL;
    if (!parse_fields(outputs, slot->outputs, &slot->output_count)) return NULL;
    slot->handler = Py_NewRef(callable);
    slot->kind = PYTHON;
    Py_RETURN_NONE;
}

/* getter(index, answers, outputs): answers[i] = (number of the handle's answer, 'u') goes to outputs[i]. */
static PyObject *py_getter(PyObject *module, PyObject *arguments) {
    (void)module;
    int index;
    PyObject *answers, *outputs;
    if (!PyArg_ParseTuple(arguments, "iOO", &index, &answers, &outputs)) return NULL;
    Slot *slot = slot_at(index);
    if (!slot || !parse_fields(answers, slot->inputs, &slot->input_count)) return NULL;
    if (!parse_fields(outputs, slot->outputs, &slot->output_count)) return NULL;
    slot->kind = GETTER;
    Py_RETURN_NONE;
}

/* releaser(index): the slot gives its handle back. */
static PyObject *py_releaser(PyObject *module, PyObject *arguments) {
    (void)module;
    int index;
    if (!PyArg_ParseTuple(arguments, "i", &index)) return NULL;
    Slot *slot = slot_at(index);
    if (!slot) return NULL;
    slot->kind = RELEASE;
    Py_RETURN_NONE;
}

/* new_handle(owner, answers): the address of a new handle that keeps `owner` alive until jaxlib gives it back. */
static PyObject *py_new_handle(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *owner, *packed;
    char *answers;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "OO", &owner, &packed)) return NULL;
    if (PyBytes_AsStringAndSize(packed, &answers, &size) < 0) return NULL;
    if ((size_t)size > sizeof((Handle *)0)->answers) return PyErr_Format(PyExc_ValueError, "too many answers");
    Handle *handle = calloc(1, sizeof(Handle));
    if (!handle) return PyErr_NoMemory();
    handle->functions = &memory_functions;
    handle->owner = Py_NewRef(owner);
    memcpy(handle->answers, answers, (size_t)size);
    atomic_fetch_add(&live_handles, 1);
    return PyLong_FromVoidPtr(handle);
}

/* set_answer(handle, number, value) */
static PyObject *py_set_answer(PyObject *module, PyObject *arguments) {
    (void)module;
    unsigned long long handle, value;
    int number;
    if (!PyArg_ParseTuple(arguments, "KiK", &handle, &number, &value)) return NULL;
    if (number < 0 || number >= ANSWER_COUNT) return PyErr_Format(PyExc_IndexError, "no such answer");
    ((Handle *)(uintptr_t)handle)->answers[number] = value;
    Py_RETURN_NONE;
}

/* release(handle): give back a handle that jaxlib does not own. */
static PyObject *py_release(PyObject *module, PyObject *address) {
    (void)module;
    void *handle = PyLong_AsVoidPtr(address);
    if (!handle && PyErr_Occurred()) return NULL;
    release(handle);
    Py_RETURN_NONE;
}

/* owners(lists, count): the Python owners of the handles in the first of a list of arrays of handles. */
static PyObject *py_owners(PyObject *module, PyObject *arguments) {
    (void)module;
    unsigned long long address;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(arguments, "Kn", &address, &count)) return NULL;
    Handle *const *handles = count ? *(Handle *const *const *)(uintptr_t)address : NULL;
    PyObject *owners = PyList_New(count);
    for (Py_ssize_t i = 0; owners && i < count; i++)
        if (PyList_SetItem(owners, i, Py_NewRef(handles[i]->owner)) < 0) Py_CLEAR(owners);
    return owners;
}

/* store(lists, addresses): write addresses into the first of a list of arrays of pointers. */
static PyObject *py_store(PyObject *module, PyObject *arguments) {
    (void)module;
    unsigned long long address;
    PyObject *addresses;
    if (!PyArg_ParseTuple(arguments, "KO", &address, &addresses)) return NULL;
    Py_ssize_t count = PyList_Size(addresses);
    for (Py_ssize_t i = 0; i < count; i++) {
        void *value = PyLong_AsVoidPtr(PyList_GetItem(addresses, i));
        if (!value && PyErr_Occurred()) return NULL;
        (*(void ***)(uintptr_t)address)[i] = value;
    }
    if (count < 0) return NULL;
    Py_RETURN_NONE;
}

/* store_one(place, address): write one pointer. */
static PyObject *py_store_one(PyObject *module, PyObject *arguments) {
    (void)module;
    unsigned long long place, address;
    if (!PyArg_ParseTuple(arguments, "KK", &place, &address)) return NULL;
    *(void **)(uintptr_t)place = (void *)(uintptr_t)address;
    Py_RETURN_NONE;
}

/* fields(address, fields): values of a structure's fields, within its own struct_size. */
static PyObject *py_fields(PyObject *module, PyObject *arguments) {
    (void)module;
    unsigned long long address;
    PyObject *sequence;
    Field fields[FIELD_COUNT];
    int count = 0;
    if (!PyArg_ParseTuple(arguments, "KO", &address, &sequence) || !parse_fields(sequence, fields, &count)) return NULL;
    PyObject *values = PyTuple_New(count);
    for (int i = 0; values && i < count; i++) {
        PyObject *value = read_field((const char *)(uintptr_t)address, fields[i]);
        if (!value || PyTuple_SetItem(values, i, value) < 0) Py_CLEAR(values);
    }
    return values;
}

/* view(address, nbytes, writable): a memoryview of the caller's memory, valid during the call that got the address. */
static PyObject *py_view(PyObject *module, PyObject *arguments) {
    (void)module;
    unsigned long long address;
    Py_ssize_t nbytes;
    int writable;
    if (!PyArg_ParseTuple(arguments, "Knp", &address, &nbytes, &writable)) return NULL;
    return PyMemoryView_FromMemory((char *)(uintptr_t)address, nbytes, writable ? PyBUF_WRITE : PyBUF_READ);
}

/* address(text): where the bytes of an object of type `bytes` lie; the caller keeps it alive. */
static PyObject *py_address(PyObject *module, PyObject *text) {
    (void)module;
    char *place = PyBytes_AsString(text);
    return place ? PyLong_FromVoidPtr(place) : NULL;
}

static PyObject *py_new_event(PyObject *module, PyObject *nothing) {
    (void)module; (void)nothing;
    Event *event = calloc(1, sizeof(Event));
    if (!event) return PyErr_NoMemory();
    atomic_init(&event->references, 2);
    return PyLong_FromVoidPtr(event);
}

/* complete_event(event, code, text): exactly once; code 0 is success. */
static PyObject *py_complete_event(PyObject *module, PyObject *arguments) {
    (void)module;
    unsigned long long event;
    int code;
    PyObject *message;
    char *text;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "KiO", &event, &code, &message)) return NULL;
    if (PyBytes_AsStringAndSize(message, &text, &size) < 0) return NULL;
    Error *error = code ? new_error(code, text, (size_t)size) : NULL;
    Py_BEGIN_ALLOW_THREADS /* callbacks of the framework may wait for threads that want the lock */
    complete_event((Event *)(uintptr_t)event, error);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_collect(PyObject *module, PyObject *nothing) {
    (void)module; (void)nothing;
    collect();
    Py_RETURN_NONE;
}

/* wait_for_garbage(): sleep until a handle was given back; False once stop_reaper() was called. */
static PyObject *py_wait_for_garbage(PyObject *module, PyObject *nothing) {
    (void)module; (void)nothing;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&garbage_lock);
    atomic_store(&reaper_sleeps, true);
    while (!reaper_stops && !atomic_load(&garbage)) {
        atomic_store(&reaper_sleeps, true);
        pthread_cond_wait(&garbage_arrived, &garbage_lock);
    }
    atomic_store(&reaper_sleeps, false);
    pthread_mutex_unlock(&garbage_lock);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(!reaper_stops);
}

static PyObject *py_stop_reaper(PyObject *module, PyObject *nothing) {
    (void)module; (void)nothing;
    pthread_mutex_lock(&garbage_lock);
    reaper_stops = true;
    pthread_cond_signal(&garbage_arrived);
    pthread_mutex_unlock(&garbage_lock);
    Py_RETURN_NONE;
}

/* leave(milliseconds): refuse other threads from now on; True once none of them is inside a handler. */
static PyObject *py_leave(PyObject *module, PyObject *arguments) {
    (void)module;
    int milliseconds;
    if (!PyArg_ParseTuple(arguments, "i", &milliseconds)) return NULL;
    main_thread = pthread_self();
    atomic_store(&leaving, true);
    Py_BEGIN_ALLOW_THREADS
    struct timespec pause = {0, 1000000};
    while (atomic_load(&calls_inside) && milliseconds-- > 0) nanosleep(&pause, NULL);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(atomic_load(&calls_inside) == 0);
}

static PyObject *py_live(PyObject *module, PyObject *nothing) {
    (void)module; (void)nothing;
    return PyLong_FromLongLong(atomic_load(&live_handles));
}

static PyMethodDef functions[] = {
    {"install", py_install, METH_VARARGS, NULL}, {"handler", py_handler, METH_VARARGS, NULL},
    {"getter", py_getter, METH_VARARGS, NULL}, {"releaser", py_releaser, METH_VARARGS, NULL},
    {"new_handle", py_new_handle, METH_VARARGS, NULL}, {"set_answer", py_set_answer, METH_VARARGS, NULL},
    {"release", py_release, METH_O, NULL}, {"owners", py_owners, METH_VARARGS, NULL},
    {"store", py_store, METH_VARARGS, NULL}, {"store_one", py_store_one, METH_VARARGS, NULL}, {"fields", py_fields, METH_VARARGS, NULL},
    {"view", py_view, METH_VARARGS, NULL}, {"address", py_address, METH_O, NULL},
    {"new_event", py_new_event, METH_NOARGS, NULL}, {"complete_event", py_complete_event, METH_VARARGS, NULL},
    {"collect", py_collect, METH_NOARGS, NULL}, {"wait_for_garbage", py_wait_for_garbage, METH_NOARGS, NULL},
    {"stop_reaper", py_stop_reaper, METH_NOARGS, NULL}, {"leave", py_leave, METH_VARARGS, NULL},
    {"live", py_live, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    const struct { const char *name; void *value; } addresses[] = {
        {"READY", &ready_event}, {"RELEASE", (void *)(uintptr_t)release}, {"NOTHING", (void *)(uintptr_t)slot_nothing},
    };
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
        if (PyModule_AddObject(module, addresses[i].name, PyLong_FromVoidPtr(addresses[i].value)) < 0) return NULL;
    return module;
}
