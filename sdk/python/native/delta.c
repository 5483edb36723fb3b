/* The fields of types.Delta, which is a dataclass over them: so one is made here without running Python. */
#include "native.h"

typedef struct {
  PyObject_HEAD
  PyObject *fields[8]; /* NULL is None */
} DeltaFields;
enum { TEXT, TOKENS, INDEX };

PyObject *delta_new(PyObject *text, PyObject *tokens, PyObject *index) {
  DeltaFields *self = (DeltaFields *)PyType_GenericAlloc((PyTypeObject *)package.delta, 0);
  if (!self) return NULL;
  PyObject *given[] = {text, tokens, index};
  for (int i = TEXT; i <= INDEX; ++i) {
    Py_INCREF(given[i]);
    self->fields[i] = given[i];
  }
  return (PyObject *)self;
}

static int traverse(PyObject *object, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(object));
  for (int i = 0; i < 8; ++i) Py_VISIT(((DeltaFields *)object)->fields[i]);
  return 0;
}

static int clear(PyObject *object) {
  for (int i = 0; i < 8; ++i) Py_CLEAR(((DeltaFields *)object)->fields[i]);
  return 0;
}

static void dealloc(PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  PyObject_GC_UnTrack(object);
  clear(object);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
  Py_DECREF(type);
}

#define FIELD(name, i) {name, T_OBJECT, offsetof(DeltaFields, fields) + (i) * sizeof(PyObject *), 0, NULL}
static PyMemberDef members[] = {
    FIELD("text", TEXT),          FIELD("tokens", TOKENS),      FIELD("index", INDEX),
    FIELD("finish_reason", 3),    FIELD("logprobs", 4),         FIELD("top_logprobs", 5),
    FIELD("stop_text", 6),        FIELD("stop_token", 7),       {NULL, 0, 0, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear}, {Py_tp_members, members}, {0, NULL},
};
static PyType_Spec spec = {"troupe._native.DeltaFields", sizeof(DeltaFields), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

static PyTypeObject *fields_type;

bool is_delta_type(PyObject *type) {
  return PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, fields_type);
}

int add_delta_fields(PyObject *module) {
  PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
  if (!type) return -1;
  Py_XDECREF(fields_type);
  fields_type = (PyTypeObject *)type;
  return PyModule_AddType(module, fields_type);
}
