/* BlockingAnswer: read by threads that wait, each answer at a queue of its own in the library. These queues take turns:
 * its threads are woken one after the other and find the interpreter's lock free.
 *
 * Several threads may read one answer: one of them waits at the queue, the others for it. So events are added in the
 * order in which the library gave them. */
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "native.h"

#define SLICE_NS 50000000 /* so long the main thread sleeps at a time: in between Python hears of signals */

typedef struct {
  Answer answer;
  troupe_queue *queue;
  pthread_mutex_t waiting; /* whose thread waits at the queue; nobody waits for it with the interpreter's lock */
  troupe_events *events;   /* that thread's: those from `at` on are not added yet */
  uint32_t at;
  pid_t process;
} BlockingAnswer;

static int init(PyObject *object, PyObject *args, PyObject *kwargs) {
  BlockingAnswer *self = (BlockingAnswer *)object;
  unsigned long long beside;
  Py_ssize_t choices;
  (void)kwargs;
  if (!PyArg_ParseTuple(args, "nK:BlockingAnswer", &choices, &beside)) return -1;
  if (self->queue) {
    PyErr_SetString(PyExc_RuntimeError, "BlockingAnswer is made once");
    return -1;
  }
  if (answer_init(&self->answer, choices) < 0) return -1;
  troupe_error *error = library.queue_new_in_turn((troupe_queue *)(uintptr_t)beside, &self->queue);
  if (error) {
    raise_error(error);
    return -1;
  }
  pthread_mutex_init(&self->waiting, NULL);
  self->process = getpid();
  return 0;
}

static void dealloc(PyObject *object) {
  BlockingAnswer *self = (BlockingAnswer *)object;
  if (self->queue) {
    library.events_free(self->events);
    library.queue_free(self->queue);
    pthread_mutex_destroy(&self->waiting);
  }
  answer_dealloc(object);
}

/* Becomes the thread that waits; false: not yet. Lets the interpreter's lock go if another one is it. */
static bool become_waiting(BlockingAnswer *self, bool is_main) {
  int failed;
  PyThreadState *state = PyEval_SaveThread();
  if (is_main) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += SLICE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    failed = pthread_mutex_timedlock(&self->waiting, &until);
  } else {
    failed = pthread_mutex_lock(&self->waiting);
  }
  PyEval_RestoreThread(state);
  return !failed;
}

/* Adds the events that are there, or sleeps until some came; now and then for nothing. */
static int wait_for_events(BlockingAnswer *self, bool is_main) {
  if (!self->events) {
    PyThreadState *state = PyEval_SaveThread();
    troupe_error *error = library.queue_wait(self->queue, is_main ? SLICE_NS : -1, 0, &self->events);
    PyEval_RestoreThread(state);
    if (error) {
      raise_error(error);
      return -1;
    }
    self->at = 0;
  }
  for (; self->at < TROUPE_COUNT(self->events); ++self->at) {
    if (answer_add(&self->answer, TROUPE_EVENT(self->events, self->at)) < 0) return -1;
  }
  library.events_free(self->events);
  self->events = NULL;
  return is_main ? PyErr_CheckSignals() : 0;
}

static PyObject *next(PyObject *object) {
  BlockingAnswer *self = (BlockingAnswer *)object;
  if (!self->queue) {
    PyErr_SetString(PyExc_RuntimeError, "an answer is made by an engine");
    return NULL;
  }
  const bool is_main = PyThread_get_thread_ident() == package.main_thread;
  bool is_waiting = false;
  PyObject *delta;
  while (!(delta = answer_take(&self->answer)) && !PyErr_Occurred() && !self->answer.read) {
    if (!is_waiting) {
      is_waiting = pthread_mutex_trylock(&self->waiting) == 0;
      /* In a fork whoever holds it is gone; the library will say that this is one. */
      if (!is_waiting && getpid() == self->process) {
        is_waiting = become_waiting(self, is_main);
        if (is_main && PyErr_CheckSignals() < 0) break;
        continue; /* the one before may have left something */
      }
    }
    if (wait_for_events(self, is_main) < 0) break;
  }
  if (is_waiting) pthread_mutex_unlock(&self->waiting);
  return delta;
}

static PyObject *wake(PyObject *object, PyObject *unused) {
  BlockingAnswer *self = (BlockingAnswer *)object;
  (void)unused;
  if (self->queue) library.queue_wake(self->queue);
  Py_RETURN_NONE;
}

static PyObject *queue(PyObject *object, void *unused) {
  (void)unused;
  return PyLong_FromVoidPtr(((BlockingAnswer *)object)->queue);
}

static PyMethodDef methods[] = {
    {"_wake", wake, METH_NOARGS, "Whoever waits, or is about to, looks again."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef properties[] = {
    {"_queue", queue, NULL, "The address of its queue.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_init, init},          {Py_tp_dealloc, dealloc},        {Py_tp_traverse, answer_traverse},
    {Py_tp_clear, answer_clear}, {Py_tp_iter, PyObject_SelfIter}, {Py_tp_iternext, next},
    {Py_tp_methods, methods},    {Py_tp_getset, properties},      {0, NULL},
};
static PyType_Spec spec = {"troupe._native.BlockingAnswer", sizeof(BlockingAnswer), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

int add_blocking_answer(PyObject *module, PyObject *answer_type) {
  PyObject *type = PyType_FromModuleAndSpec(module, &spec, answer_type);
  const int failed = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
  Py_XDECREF(type);
  return failed;
}
