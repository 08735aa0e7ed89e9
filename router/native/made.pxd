"""Objects of Python classes made without their `__init__`, slot by slot."""

cdef extern from *:
    """
    #include <structmember.h>
    static inline PyObject* headgate_new(PyObject* type) {
      return PyType_GenericAlloc((PyTypeObject*)type, 0);
    }
    // Where a class keeps one of its `__slots__`; below 0: it has no such slot.
    static Py_ssize_t headgate_slot(PyObject* descriptor) {
      return Py_TYPE(descriptor) == &PyMemberDescr_Type ? ((PyMemberDescrObject*)descriptor)->d_member->offset : -1;
    }
    // Fills a slot of an object that has just been made, whatever its class says of later changes.
    static inline void headgate_fill(PyObject* made, Py_ssize_t slot, PyObject* value) {
      Py_INCREF(value);
      *(PyObject**)((char*)made + slot) = value;
    }
    """
    object new_of "headgate_new"(object)
    Py_ssize_t slot_of "headgate_slot"(object)
    void fill "headgate_fill"(object, Py_ssize_t, object)
