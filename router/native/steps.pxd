from libc.stdint cimport int64_t


cdef extern from "steps.hpp" namespace "headgate" nogil:
    cdef enum Left:
        kStays
        kOtherRoute
        kInPieces
        kPipelined
        kHeader
        kLargeBody
        kNoEngine
        kSlowHead
        kBody
        kModel
        kBounds
        kKey
        kScoring
        kNoMember
        kUrl
        kBreaker
        kSlowHost
        kNoRoom
        kFailed
        kRefused
        kClientGone
        kCut
        kAnswer
        kJournal
        kCauses
    const int kOnceBegun


cdef class Steps:
    cdef int64_t[<int>kCauses] left
    cdef int64_t framed
    cdef int64_t begun
    cdef int64_t ended
