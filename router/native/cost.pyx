"""What an engine's steps did and cost. See cost.pyi."""

from collections import namedtuple

from libc.stdint cimport uint64_t

cimport cost as native

from router.steps import StepSums

_NAMES = tuple([native.kSumNames[i].decode() for i in range(native.kSums)])
assert _NAMES == StepSums.__struct_fields__

Coefficients = namedtuple("Coefficients", ("step", "running", "context", "prefill", "others"))


cdef int read_sums(object told, native.StepSums* out) except -1:
    cdef double* values = native.values_of(out)
    cdef size_t i
    for i in range(native.kSums):
        values[i] = getattr(told, _NAMES[i])
    return 0


cdef object sums_of(const native.StepSums& sums):
    cdef native.StepSums copy = sums
    cdef double* values = native.values_of(&copy)
    cdef size_t i
    return StepSums(**{_NAMES[i]: values[i] for i in range(native.kSums)})


cdef class StepMeter:
    cdef native.StepMeter meter

    def outputs(self, double now_s, double rows, double fresh, double context, double prefill, double scheduled_s):
        self.meter.outputs(now_s, rows, fresh, context, prefill, scheduled_s)

    def stepped(self, bint reading):
        self.meter.stepped(reading)

    def sums(self):
        return sums_of(self.meter.sums)


cdef class StepCost:
    cdef native.StepCost model

    def learn(self, before, now, double others=0):
        cdef native.StepSums first, last, window
        read_sums(before, &first)
        read_sums(now, &last)
        if not native.grown(last, first, &window):
            return False
        self.model.learn(window, others)
        return True

    def predict(self, double steps, double running, double context, double prefill, double others=0):
        return self.model.predict(steps, running, context, prefill, others)

    @property
    def coefficients(self):
        cdef size_t i
        return Coefficients(*[self.model.coefficients[i] for i in range(native.kAll)])

    @property
    def windows(self):
        return self.model.windows

    @property
    def cut(self):
        return self.model.cut

    @property
    def error(self):
        return self.model.errors.median()

    def kept(self):
        cdef double values[native.kKept]
        self.model.keep(values)
        return [values[i] for i in range(native.kKept)]

    def restore(self, list kept not None, uint64_t windows, uint64_t cut, double error):
        cdef double values[native.kKept]
        cdef size_t i
        if <size_t>len(kept) != native.kKept or not 0 <= error < 1e6:
            return False
        for i in range(native.kKept):
            values[i] = kept[i]
        if not self.model.restore(values, windows, cut):
            return False
        self.model.errors.restore(windows, error)
        return True
