cimport way as native


cdef class TextTurns:
    cdef bytes body  # holds what the turns point to
    cdef native.Chat chat
