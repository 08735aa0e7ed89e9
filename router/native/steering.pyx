"""Sums of what decisions chose, and the share of one member (csrc/steering.hpp). See steering.pyi."""

from libc.stddef cimport size_t

cimport steering as native
cimport way


cdef class Steering:
    def hold(self, int member, double share=0, bint by_tokens=False):
        if member >= 0 and not 0 < share < 1:
            raise ValueError(f"share: expected above 0 and below 1, got {share}")
        self.holder.member, self.holder.share, self.holder.by_tokens = member, share, by_tokens

    @property
    def member(self):
        return self.holder.member

    @property
    def by_tokens(self):
        return self.holder.by_tokens

    @property
    def adds(self):
        return self.holder.adds

    @adds.setter
    def adds(self, bint adds):
        self.holder.adds = adds

    @property
    def favour(self):
        return self.holder.favour()

    @property
    def owed(self):
        return self.holder.owed()

    def sums(self):
        cdef native.DecisionSums sums = self.holder.sums
        return {
            "decided": sums.decided,
            "all": sums.all,
            "spent_usd": sums.spent_usd,
            "least_usd": sums.least_usd,
            "best_usd": sums.best_usd,
            "quality": sums.quality,
            "least_quality": sums.least_quality,
            "best_quality": sums.best_quality,
            "strong_quality": sums.strong_quality,
            "given": sums.given,
            "offered": sums.offered,
        }

    cdef int favour_in(self, way.Member* members, size_t size) except -1:
        """Of the share's member."""
        if self.holder.member >= 0 and <size_t>self.holder.member < size:
            members[self.holder.member].favour = self.holder.favour()
        return 0

    cdef int note(self, const way.Decided* decided) except -1:
        self.holder.note(decided[0])
        return 0

    cdef int settle(self, const way.Decided* decided, double tokens) except -1:
        self.holder.settle(decided[0], tokens)
        return 0
