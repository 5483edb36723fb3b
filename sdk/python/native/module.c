/* The module: its functions, and what it was connected with. */
#include "native.h"

struct library library;
struct package package;

PyObject *call_with(PyObject *function, const void *address) {
  return PyObject_CallFunction(function, "K", (unsigned long long)(uintptr_t)address);
}

void raise_error(troupe_error *error) {
  PyObject *none = call_with(package.raise_error, error);
  if (none) PyErr_SetString(PyExc_SystemError, "an error of the library was not raised");
  Py_XDECREF(none);
}

static PyObject *connect(PyObject *module, PyObject *args) {
  unsigned long long functions[5];
  unsigned event_size, events_size;
  struct package given;
  (void)module;
  if (!PyArg_ParseTuple(args, "(KKKKK)(II)OOOOOk:connect", &functions[0], &functions[1], &functions[2], &functions[3],
                        &functions[4], &event_size, &events_size, &given.delta, &given.complete, &given.prompt_of,
                        &given.end_of, &given.raise_error, &given.main_thread)) {
    return NULL;
  }
  if (event_size != sizeof(troupe_event) || events_size != sizeof(troupe_events)) {
    PyErr_SetString(PyExc_ImportError, "troupe._native was compiled with another troupe.h than the package: install "
                                       "a whole wheel, or in the source tree run sdk/python/compile");
    return NULL;
  }
  if (!is_delta_type(given.delta)) {
    PyErr_SetString(PyExc_TypeError, "connect: deltas must be DeltaFields");
    return NULL;
  }
  library.queue_new_in_turn = (troupe_error * (*)(troupe_queue *, troupe_queue **))(uintptr_t)functions[0];
  library.queue_free = (void (*)(troupe_queue *))(uintptr_t)functions[1];
  library.queue_wait = (troupe_error * (*)(troupe_queue *, int64_t, uint32_t, troupe_events **))(uintptr_t)functions[2];
  library.queue_wake = (void (*)(troupe_queue *))(uintptr_t)functions[3];
  library.events_free = (void (*)(troupe_events *))(uintptr_t)functions[4];
  PyObject *kept[] = {given.delta, given.complete, given.prompt_of, given.end_of, given.raise_error};
  for (size_t i = 0; i < sizeof kept / sizeof *kept; ++i) Py_INCREF(kept[i]); /* for as long as the process lives */
  package = given;
  Py_RETURN_NONE;
}

static int refuse_other_interpreters(PyObject *module) {
  (void)module;
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) == 0) return 0;
  PyErr_SetString(PyExc_ImportError, "troupe works in the main interpreter only, and this is a sub-interpreter");
  return -1;
}

static int add_types(PyObject *module) {
  PyObject *answer_type = NULL;
  const int failed = add_delta_fields(module) < 0 || add_answer(module, &answer_type) < 0 || add_blocking_answer(module, answer_type) < 0 ||
                     add_awaited_answer(module, answer_type) < 0;
  Py_XDECREF(answer_type);
  return failed ? -1 : 0;
}

static PyMethodDef functions[] = {
    {"connect", connect, METH_VARARGS, "Tells this module of the library and of the package, see native.h."},
    {"drain", drain, METH_VARARGS,
     "(queue, answers, opening): gives each answer, by key, what came for it and each event of opening to `opening`. "
     "The futures of those who wait and have something to read now."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, refuse_other_interpreters},
    {Py_mod_exec, add_types},
    {0, NULL},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "troupe._native", NULL, 0, functions, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
  return PyModuleDef_Init(&definition);
}
