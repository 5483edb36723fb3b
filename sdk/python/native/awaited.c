/* AwaitedAnswer: read by a task of an event loop. The loop hears of its engine's queue through the descriptor, and
 * drain() gives each answer what came for it. */
#include "native.h"

typedef struct {
  Answer answer;
  PyObject *waiter; /* the future on which its task waits, or None */
} AwaitedAnswer;

static PyTypeObject *awaited_type; /* drain() looks whether it was given such */

static int init(PyObject *object, PyObject *args, PyObject *kwargs) {
  Py_ssize_t choices;
  (void)kwargs;
  return PyArg_ParseTuple(args, "n:AwaitedAnswer", &choices) ? answer_init((Answer *)object, choices) : -1;
}

static int traverse(PyObject *object, visitproc visit, void *arg) {
  Py_VISIT(((AwaitedAnswer *)object)->waiter);
  return answer_traverse(object, visit, arg);
}

static int clear(PyObject *object) {
  Py_CLEAR(((AwaitedAnswer *)object)->waiter);
  return answer_clear(object);
}

static void dealloc(PyObject *object) {
  PyObject_GC_UnTrack(object);
  Py_CLEAR(((AwaitedAnswer *)object)->waiter);
  answer_dealloc(object);
}

/* Whoever waits, and now has something to read. */
static int add_waiter(PyObject *due, AwaitedAnswer *self) {
  if (!self->waiter || self->waiter == Py_None || !self->answer.first) return 0;
  PyObject *waiter = self->waiter;
  self->waiter = NULL;
  const int failed = PyList_Append(due, waiter);
  Py_DECREF(waiter);
  return failed;
}

static int hand_out(const troupe_event *event, PyObject *key, PyObject *answers, PyObject *due, PyObject **to_raise) {
  PyObject *found = PyDict_GetItemWithError(answers, key);
  if (!found || !PyObject_TypeCheck(found, awaited_type)) return PyErr_Occurred() ? -1 : 0; /* it was left */
  Py_INCREF(found);
  Answer *answer = (Answer *)found;
  if (answer_add(answer, event) < 0) {
    PyObject *error = answer_fail(answer);
    if (*to_raise) Py_XDECREF(error);
    else *to_raise = error;
  }
  const int failed = (answer->ended && PyDict_DelItem(answers, key) < 0) || add_waiter(due, (AwaitedAnswer *)found) < 0;
  Py_DECREF(found);
  return failed ? -1 : 0;
}

static int hand_out_all(troupe_events *events, PyObject *answers, PyObject *opening, PyObject *due,
                        PyObject **to_raise) {
  for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
    const troupe_event *event = TROUPE_EVENT(events, i);
    PyObject *made = event->id == 0 ? call_with(opening, event) : PyLong_FromUnsignedLongLong(event->user_data);
    if (!made) return -1;
    const int failed = event->id == 0 ? 0 : hand_out(event, made, answers, due, to_raise);
    Py_DECREF(made);
    if (failed) return -1;
  }
  return 0;
}

PyObject *drain(PyObject *module, PyObject *args) {
  unsigned long long queue;
  PyObject *answers, *opening;
  (void)module;
  if (!PyArg_ParseTuple(args, "KO!O:drain", &queue, &PyDict_Type, &answers, &opening)) return NULL;
  PyObject *due = PyList_New(0), *to_raise = NULL;
  if (!due) return NULL;
  troupe_events *events = NULL;
  troupe_error *error = library.queue_wait((troupe_queue *)(uintptr_t)queue, 0, 0, &events);
  if (error) raise_error(error);
  if (error || hand_out_all(events, answers, opening, due, &to_raise) < 0) Py_CLEAR(due);
  library.events_free(events);
  if (to_raise && due) {
    PyErr_SetObject((PyObject *)Py_TYPE(to_raise), to_raise);
    Py_CLEAR(due);
  }
  Py_XDECREF(to_raise);
  return due;
}

static PyMemberDef members[] = {
    {"_waiter", T_OBJECT, offsetof(AwaitedAnswer, waiter), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_init, init},   {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse},
    {Py_tp_clear, clear}, {Py_tp_members, members}, {0, NULL},
};
static PyType_Spec spec = {"troupe._native.AwaitedAnswer", sizeof(AwaitedAnswer), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

int add_awaited_answer(PyObject *module, PyObject *answer_type) {
  PyObject *type = PyType_FromModuleAndSpec(module, &spec, answer_type);
  if (!type) return -1;
  Py_XDECREF(awaited_type);
  awaited_type = (PyTypeObject *)type;
  return PyModule_AddType(module, awaited_type);
}
