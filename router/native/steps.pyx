"""Which steps of requests were native, and why others were not. See steps.pyi."""

STEPS = ("head", "body", "admit", "score", "decide", "frame", "pass_on", "end")

_LATER = ("failed", "refused", "client_gone", "cut", "answer", "journal")

#: In the order of `Left` in csrc/steps.hpp.
CAUSES = (
    ("", ""),
    ("head", "other_route"), ("head", "in_pieces"), ("head", "pipelined"), ("head", "header"), ("head", "large_body"),
    ("head", "no_engine"), ("head", "slow_head"),
    ("body", "body"), ("body", "model"),
    ("admit", "bounds"), ("admit", "key"),
    ("score", "error"),
    ("decide", "no_member"),
    ("frame", "url"), ("frame", "breaker"), ("frame", "slow_host"), ("frame", "no_room"),
    *[("pass_on", why) for why in _LATER],
    *[("end", why) for why in _LATER],
)
assert len(CAUSES) == <int>kCauses

NO_ENGINE, PIPELINED, SCORING = <int>kNoEngine, <int>kPipelined, <int>kScoring
FAILED, REFUSED, CLIENT_GONE, CUT = <int>kFailed, <int>kRefused, <int>kClientGone, <int>kCut


cdef class Steps:
    def count(self, int cause):
        if not 0 < cause < <int>kCauses:
            raise ValueError(f"cause: expected 1 to {<int>kCauses - 1}, got {cause}")
        self.left[cause] += 1

    def rows(self):
        """Of the steps up to the frame a request that left at one took all before it natively."""
        cdef int64_t native = self.framed
        cdef list rows = [("end", "true", "", self.ended), ("pass_on", "true", "", self.begun)]
        for step in reversed(STEPS[:6]):
            rows.append((step, "true", "", native))
            native += sum([self.left[i] for i in range(1, <int>kCauses) if CAUSES[i][0] == step])
        for i in range(1, <int>kCauses):
            step, why = CAUSES[i]
            if self.left[i]:
                rows.append((step, "false", why, self.left[i]))
        return rows
