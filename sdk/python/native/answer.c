/* An answer's items: deltas and what else came, in their order, until they are read; and the gathering of what was. */
#include "native.h"

enum kind { DELTA, DELTA_AND_MORE, OTHER, END };

struct item {
  struct item *next;
  enum kind kind;
  PyObject *what;                 /* a Delta; what prompt_of or end_of made, or an exception */
  PyObject *text, *tokens;        /* the delta's */
  Py_ssize_t index;
  bool halfway; /* gathered but for its text */
};

static void item_free(struct item *item) {
  Py_XDECREF(item->what);
  Py_XDECREF(item->text);
  Py_XDECREF(item->tokens);
  PyMem_Free(item);
}

/* Takes over the references in `made`, also when it fails. */
static bool put(Answer *self, struct item made) {
  struct item *item = made.what ? PyMem_Malloc(sizeof *item) : NULL;
  if (!item) {
    if (made.what) PyErr_NoMemory();
    Py_XDECREF(made.what);
    Py_XDECREF(made.text);
    Py_XDECREF(made.tokens);
    return false;
  }
  *item = made;
  item->next = NULL;
  if (self->last) self->last->next = item;
  else self->first = item;
  self->last = item;
  if (item->kind == END) self->ended = true;
  return true;
}

static struct item *pop(Answer *self) {
  struct item *item = self->first;
  if (!item) return NULL;
  self->first = item->next;
  if (!self->first) self->last = NULL;
  return item;
}

static void put_back(Answer *self, struct item *item) {
  item->next = self->first;
  self->first = item;
  if (!self->last) self->last = item;
}

static void drop_items(Answer *self) {
  for (struct item *item; (item = pop(self));) item_free(item);
}

/* ---- from events ---- */

static PyObject *list_of(const int32_t *tokens, size_t count) {
  PyObject *list = PyList_New((Py_ssize_t)count);
  for (size_t i = 0; list && i < count; ++i) {
    PyObject *token = PyLong_FromLong(tokens[i]);
    if (!token || PyList_SetItem(list, (Py_ssize_t)i, token) < 0) Py_CLEAR(list);
  }
  return list;
}

static bool put_delta(Answer *self, const troupe_event *event) {
  struct item made = {.kind = DELTA, .index = event->index};
  PyObject *index = PyLong_FromLong(event->index);
  made.text = PyUnicode_DecodeUTF8(event->text_size ? event->text : "", (Py_ssize_t)event->text_size, "replace");
  made.tokens = list_of(event->tokens, event->n_tokens);
  if (index && made.text && made.tokens) {
    made.what = delta_new(made.text, made.tokens, index);
  }
  Py_XDECREF(index);
  if (made.what && (event->finish_reason != TROUPE_FINISH_NONE || event->logprobs)) {
    made.kind = DELTA_AND_MORE;
    PyObject *none = PyObject_CallFunction(package.complete, "OK", made.what, (unsigned long long)(uintptr_t)event);
    if (!none) Py_CLEAR(made.what);
    Py_XDECREF(none);
  }
  return put(self, made);
}

int answer_add(Answer *self, const troupe_event *event) {
  if (self->ended) return 0;
  bool added = true;
  if (event->kind == TROUPE_EVENT_TOKENS) {
    if (event->prompt_logprobs) {
      added = put(self, (struct item){.kind = OTHER, .what = call_with(package.prompt_of, event)});
    }
    added = added && put_delta(self, event);
  } else if (TROUPE_IS_TERMINAL(event->kind)) {
    added = put(self, (struct item){.kind = END, .what = call_with(package.end_of, event)});
  }
  return added ? 0 : -1;
}

PyObject *answer_fail(Answer *self) {
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (trace) PyException_SetTraceback(value, trace);
  Py_XDECREF(type);
  Py_XDECREF(trace);
  self->ended = true;
  Py_INCREF(value);
  self->lost = !put(self, (struct item){.kind = END, .what = value});
  if (self->lost) PyErr_Clear();
  if (PyObject_IsInstance(value, PyExc_Exception) == 1) Py_CLEAR(value);
  return value;
}

/* ---- to the reader ---- */

/* Where it fails, for want of memory or by a signal's handler, it is called once more, and goes on from there: what
 * went in could not be taken out for certain, as a list that shrinks may ask for memory. */
static bool gather(Answer *self, struct item *item) {
  PyObject *texts = PyList_GetItem(self->texts, item->index);
  PyObject *tokens = texts ? PyList_GetItem(self->tokens, item->index) : NULL;
  if (!tokens) return false;
  if (item->kind == DELTA_AND_MORE && !item->halfway) {
    PyObject *none = PyObject_CallMethod((PyObject *)self, "_add", "O", item->what);
    Py_XDECREF(none);
    if (!none) return false;
  }
  const Py_ssize_t end = PyList_Size(tokens);
  item->halfway = item->halfway || PyList_SetSlice(tokens, end, end, item->tokens) == 0; /* all of them, or none */
  return item->halfway && PyList_Append(texts, item->text) == 0;
}

/* Whether it was heard. What is to be raised because of it is set then too. */
static bool hear(Answer *self, const struct item *item) {
  self->read = item->kind == END; /* before another thread looks, while Python runs */
  PyObject *error = PyObject_CallMethod((PyObject *)self, "_hear", "O", item->what);
  if (!error) {
    self->read = false;
    return false;
  }
  if (error != Py_None) PyErr_SetObject((PyObject *)Py_TYPE(error), error);
  Py_DECREF(error);
  return true;
}

PyObject *answer_take(Answer *self) {
  for (struct item *item; (item = pop(self));) {
    PyObject *delta = NULL;
    const bool is_delta = item->kind == DELTA || item->kind == DELTA_AND_MORE;
    if (!(is_delta ? gather(self, item) : hear(self, item))) {
      put_back(self, item); /* a signal's handler may raise in there: it is read once more */
      return NULL;
    }
    if (is_delta) {
      delta = item->what;
      Py_INCREF(delta);
    }
    item_free(item);
    if (delta || PyErr_Occurred()) return delta;
  }
  if (self->lost) {
    self->lost = false;
    self->read = true;
    return PyErr_NoMemory();
  }
  return NULL;
}

static PyObject *take(PyObject *object, PyObject *unused) {
  (void)unused;
  PyObject *delta = answer_take((Answer *)object);
  if (!delta && !PyErr_Occurred()) Py_RETURN_NONE;
  return delta;
}

static PyObject *end_with(PyObject *object, PyObject *args) {
  Answer *self = (Answer *)object;
  PyObject *last;
  int drop;
  if (!PyArg_ParseTuple(args, "Op:_end_with", &last, &drop)) return NULL;
  if (self->ended && !(drop && self->last && self->last->kind == END)) Py_RETURN_NONE; /* it was read, or is due */
  if (drop) drop_items(self);
  Py_INCREF(last);
  self->ended = true;
  if (!put(self, (struct item){.kind = END, .what = last})) return NULL;
  Py_RETURN_NONE;
}

/* ---- the type ---- */

static PyObject *lists(Py_ssize_t count) {
  PyObject *outer = PyList_New(count);
  for (Py_ssize_t i = 0; outer && i < count; ++i) {
    PyObject *inner = PyList_New(0);
    if (!inner || PyList_SetItem(outer, i, inner) < 0) Py_CLEAR(outer);
  }
  return outer;
}

int answer_init(Answer *self, Py_ssize_t choices) {
  answer_clear((PyObject *)self);
  self->texts = lists(choices);
  self->tokens = lists(choices);
  return self->texts && self->tokens ? 0 : -1;
}

int answer_traverse(PyObject *object, visitproc visit, void *arg) {
  Answer *self = (Answer *)object;
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(self->texts);
  Py_VISIT(self->tokens);
  for (struct item *item = self->first; item; item = item->next) {
    Py_VISIT(item->what);
    Py_VISIT(item->tokens);
  }
  return 0;
}

int answer_clear(PyObject *object) {
  Answer *self = (Answer *)object;
  drop_items(self);
  Py_CLEAR(self->texts);
  Py_CLEAR(self->tokens);
  return 0;
}

void answer_dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  answer_clear(object);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
  Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"_texts", T_OBJECT, offsetof(Answer, texts), READONLY, NULL},
    {"_tokens", T_OBJECT, offsetof(Answer, tokens), READONLY, NULL},
    {"_read", T_BOOL, offsetof(Answer, read), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyMethodDef methods[] = {
    {"_take", take, METH_NOARGS, "The next delta that is there, or None."},
    {"_end_with", end_with, METH_VARARGS, "(last, drop): `last` is the end, after, or instead of, what waits to be read."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_dealloc, answer_dealloc}, {Py_tp_traverse, answer_traverse}, {Py_tp_clear, answer_clear},
    {Py_tp_members, members},        {Py_tp_methods, methods},          {0, NULL},
};
static PyType_Spec spec = {"troupe._native.Answer", sizeof(Answer), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

int add_answer(PyObject *module, PyObject **out_type) {
  *out_type = PyType_FromModuleAndSpec(module, &spec, NULL);
  return *out_type ? PyModule_AddType(module, (PyTypeObject *)*out_type) : -1;
}
