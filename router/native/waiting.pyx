"""Objects that wait, in the order in which they are to start. See waiting.pyi."""

from libc.math cimport INFINITY, isnan
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cimport fair_queue as native


cdef class FairQueue:
    cdef native.FairQueue queue
    cdef list items  # by place; None: nobody

    def __init__(self):
        self.items = []

    @classmethod
    def __class_getitem__(cls, item):
        return cls

    def __len__(self):
        return self.queue.size()

    def add(self, item, str key not None, int32_t priority=0, double deadline_s=INFINITY, double since_s=0):
        if isnan(deadline_s) or isnan(since_s):
            raise ValueError(f"deadline_s, since_s: expected numbers, got {deadline_s}, {since_s}")
        cdef uint32_t place = self.queue.add(priority, <uint64_t><int64_t>hash(key), deadline_s, since_s)
        if place == <uint32_t>len(self.items):
            self.items.append(item)
        else:
            self.items[place] = item
        return place

    def next(self):
        if not self.queue.size():
            raise LookupError("nobody waits")
        return self._gone(self.queue.next())

    def last(self):
        if not self.queue.size():
            raise LookupError("nobody waits")
        return self.items[self.queue.last()]

    def remove(self, uint32_t place, item):
        if place >= <uint32_t>len(self.items) or self.items[place] is not item or item is None:
            raise LookupError(f"it does not wait at place {place}")
        self.queue.remove(place)
        self._gone(place)

    def ahead(self, int32_t priority=0):
        return self.queue.ahead(priority)

    cdef object _gone(self, uint32_t place):
        item = self.items[place]
        self.items[place] = None
        return item
