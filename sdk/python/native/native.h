/* troupe._native: what a token event costs is spent here. It turns events into Deltas, gathers them, and waits for
 * them without the interpreter's lock; everything rare (ends, errors, tables of log-probabilities) it leaves to the
 * package's Python, to which it hands an event's address.
 *
 * It does not link with libtroupe: cffi opened that, and connect() is told the addresses of its functions. All state
 * of an answer is guarded by the interpreter's lock, which is let go only while a thread sleeps in troupe_queue_wait or
 * for its turn to do so. No thread is made here. One interpreter, the main one: the module refuses others.
 *
 * The stable ABI of Python 3.10: one build serves all later ones. */
#ifndef TROUPE_NATIVE_H
#define TROUPE_NATIVE_H

#define Py_LIMITED_API 0x030a0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <structmember.h>
#include <troupe.h>

/* libtroupe's functions, as connect() was told. */
struct library {
  troupe_error *(*queue_new_in_turn)(troupe_queue *other, troupe_queue **out);
  void (*queue_free)(troupe_queue *queue);
  troupe_error *(*queue_wait)(troupe_queue *queue, int64_t timeout_ns, uint32_t max, troupe_events **out);
  void (*queue_wake)(troupe_queue *queue);
  void (*events_free)(troupe_events *events);
};
extern struct library library;

/* The package's, likewise. Those that take an address return what their names say of the struct that is there. */
struct package {
  PyObject *delta;      /* types.Delta */
  PyObject *complete;   /* (delta, address of an event): the fields beside text, tokens and index */
  PyObject *prompt_of;  /* (address): the table of the prompt's log-probabilities */
  PyObject *end_of;     /* (address): the End of a terminal event */
  PyObject *raise_error; /* (address of a troupe_error): raises it, and frees it */
  unsigned long main_thread;
};
extern struct package package;

/* Calls one of them with an address. */
PyObject *call_with(PyObject *function, const void *address);
/* Sets the exception for an error of the library's. */
void raise_error(troupe_error *error);

/* A types.Delta; the other fields are None. */
PyObject *delta_new(PyObject *text, PyObject *tokens, PyObject *index);
bool is_delta_type(PyObject *type);

/* What came for one request and was not read yet, and what was, gathered by choice. Its subclasses in Python have
 * _add(delta), for deltas with more than text and tokens, and _hear(item), for everything else, which returns what is
 * to be raised because of it, or None. */
struct item;
typedef struct {
  PyObject_HEAD
  PyObject *texts, *tokens; /* a list of str, and of int, for each choice: of what was read */
  struct item *first, *last;
  bool ended; /* the end is among the items, or was: nothing is added any more */
  bool read;  /* it was taken out */
  bool lost;  /* there was no memory for the item that says why it ended */
} Answer;

/* Adds what an event says. After an exception, which a signal's handler may have raised, it may be added again. */
int answer_add(Answer *self, const troupe_event *event);
/* The exception that is set becomes the end, and is set no longer. Returned if it is for more than this answer, as
 * KeyboardInterrupt is. */
PyObject *answer_fail(Answer *self);
/* The next delta. NULL without an exception: there is none. */
PyObject *answer_take(Answer *self);

int answer_init(Answer *self, Py_ssize_t choices);
int answer_traverse(PyObject *object, visitproc visit, void *arg);
int answer_clear(PyObject *object);
void answer_dealloc(PyObject *object);

int add_delta_fields(PyObject *module);
int add_answer(PyObject *module, PyObject **out_type);
int add_blocking_answer(PyObject *module, PyObject *answer_type);
int add_awaited_answer(PyObject *module, PyObject *answer_type);
PyObject *drain(PyObject *module, PyObject *args);

#endif
