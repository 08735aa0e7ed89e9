"""What other native modules may see of costs."""

cimport cost as native


cdef int read_sums(object told, native.StepSums* out) except -1
cdef object sums_of(const native.StepSums& sums)
