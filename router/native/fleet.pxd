"""What other native modules may see of the engines of a pool."""

from libcpp.vector cimport vector

cimport way as native
from router.native.lane cimport Lane
from router.native.steering cimport Steering


cdef struct Place:
    int model
    int replica


cdef class Fleet:
    cdef readonly list groups  # by model: lanes of its engines
    cdef readonly tuple models
    cdef public Steering steering  # of decisions on these engines; None: nobody steers
    cdef native.Prefixes prefixes
    cdef native.PromptBlocks prompt  # that was read last
    cdef native.Draws draws
    cdef vector[native.Member] rows  # kept between calls: room, no state
    cdef vector[int] compared
    cdef vector[Place] places  # of the engines' caches, by holder
    cdef int read(self, const vector[native.ChatTurn]& turns, bytes adapter) except -1
    cdef int look(self, double now_s, const native.Question* question, const native.Settings* settings,
                  native.Member* out, Lane barred, Lane only) except -1
    cdef Lane lane(self, int model, int replica)
    cdef double share(self, Lane lane) noexcept
    cdef int note(self, Lane lane) except -1
    cdef int _compare(self, list lanes, int model, double now_s, const native.Question* question,
                      const native.Settings* settings, native.Member* out, Lane barred) except -1
    cdef int _read_turns(self, object query) except -1
    cdef int _place(self, Lane lane) except -1
    cdef int _add_holders(self, list lanes, int model) except -1
    cdef bint _has(self, int replica) noexcept
    cdef int _add(self, int replica) except -1
    cdef int _draw(self, list lanes, int model, double now_s, const native.Settings* settings, Lane barred) except -1


cdef class Picks:
    cdef Fleet fleet
    cdef readonly tuple models
    cdef vector[native.Member] members
    cdef native.PromptBlocks prompt
