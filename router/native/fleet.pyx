"""The engines of a pool's models, of which each model has one or several, and which of them a request would go to. See
fleet.pyi."""

from libc.stddef cimport size_t

cimport way as native
from router.native.lane cimport Lane
from router.native.large_body cimport TextTurns
from router.native.steering cimport Steering
from router.native.table cimport Fields, fields_of
from router.native.views cimport view_of


cdef Fields QUERY = fields_of(native.query_table())
cdef Fields SETTINGS = fields_of(native.settings_table())

cdef size_t MOST_DRAWS = 8  # for two engines that may take the request
cdef size_t DRAWN = 2
cdef size_t HOLDERS = 2  # that got most of the prompt before, compared beside those that are drawn


cdef class Fleet:
    def __init__(self, groups, models, unsigned long long seed=0):
        self.draws.seed = seed
        self.hold(groups, models)

    def hold(self, groups, models):
        cdef Lane lane
        cdef int model, replica, size, several
        groups, models = [list(lanes) for lanes in groups], tuple(models)
        if not all(groups) or len(groups) != len(models):
            raise ValueError(f"groups: expected at least one engine of each of {len(models)} models")
        self.groups, self.models = groups, models
        self.places.clear()
        for model in range(len(self.groups)):
            size = len(<list>self.groups[model])
            several = size if size > 1 else 0
            for replica in range(size):
                lane = self.groups[model][replica]
                lane.model, lane.replica = model, replica
                lane.replicas = several
                self._place(lane)

    def pick(self, query, long long prompt_tokens, settings, double now_s, Lane barred=None, Lane only=None):
        cdef Picks picks = Picks.__new__(Picks)
        cdef native.Question question
        cdef native.Settings chosen_by
        QUERY.read(query, <char*>&question)
        SETTINGS.read(settings, <char*>&chosen_by)
        question.prompt_tokens, question.draw = prompt_tokens, 0
        self._read_turns(query)
        picks.fleet, picks.models, picks.prompt = self, self.models, self.prompt
        picks.members.resize(len(self.groups))
        self.look(now_s, &question, &chosen_by, picks.members.data(), barred, only)
        return picks

    cdef int _read_turns(self, object query) except -1:
        cdef bytes adapter = query.adapter.encode(), role, text
        turns = query.turns
        if type(turns) is TextTurns:
            return self.read((<TextTurns>turns).chat.turns, adapter)
        self.prompt.begin(view_of(adapter))
        for turn in turns:
            role, text = turn.role.encode("utf-8", "surrogatepass"), turn.text.encode("utf-8", "surrogatepass")
            self.prompt.add(view_of(role), view_of(text))
        self.prompt.end()
        self.prefixes.look(self.prompt)
        return 0

    cdef int read(self, const vector[native.ChatTurn]& turns, bytes adapter) except -1:
        cdef size_t i
        self.prompt.begin(view_of(adapter))
        for i in range(turns.size()):
            self.prompt.add(turns[i].role, turns[i].text)
        self.prompt.end()
        self.prefixes.look(self.prompt)
        return 0

    cdef int look(self, double now_s, const native.Question* question, const native.Settings* settings,
                  native.Member* out, Lane barred, Lane only) except -1:
        """The numbers of each model, which are those of the engine that would take the request, into `out`."""
        cdef Py_ssize_t model
        cdef list lanes
        cdef Lane lane
        for model in range(len(self.groups)):
            lanes = <list>self.groups[model]
            lane = only if only is not None and only.model == model else <Lane>lanes[0]
            if len(lanes) == 1 or lane is only:
                lane.look(now_s, self.share(lane), &out[model])
            else:
                self._compare(lanes, model, now_s, question, settings, &out[model], barred)
        if self.steering is not None:
            self.steering.favour_in(out, len(self.groups))
        return 0

    cdef Lane lane(self, int model, int replica):
        return <Lane>(<list>self.groups[model])[replica]

    cdef double share(self, Lane lane) noexcept:
        """Of the prompt that was read last, which the engine got before; below 0: not known, of a URL's cache never."""
        if not self.prompt.bytes or not lane.framed:
            return -1
        return <double>self.prefixes.matched(lane.load.load.holder) / <double>self.prompt.bytes

    cdef int note(self, Lane lane) except -1:
        """It is sent the prompt that was read last."""
        self._place(lane)
        self.prefixes.note(self.prompt, lane.load.load.holder)
        return 0

    cdef int _place(self, Lane lane) except -1:
        cdef size_t holder = lane.load.load.holder
        if holder >= self.places.size():
            self.places.resize(holder + 1)
        self.places[holder] = Place(lane.model, lane.replica)
        return 0

    cdef int _compare(self, list lanes, int model, double now_s, const native.Question* question,
                      const native.Settings* settings, native.Member* out, Lane barred) except -1:
        cdef size_t i, n = len(lanes)
        cdef Lane lane
        self.compared.clear()
        if n > native.kMostCompared:
            self._draw(lanes, model, now_s, settings, barred)
        else:
            for i in range(n):
                self.compared.push_back(i)
        n = self.compared.size()
        self.rows.resize(n)
        for i in range(n):
            lane = <Lane>lanes[self.compared[i]]
            lane.look(now_s, self.share(lane), &self.rows[i])
            if lane is barred:
                self.rows[i].ready = False
        out[0] = native.best_replica(self.rows.data(), n, question[0], settings[0])
        return 0

    cdef int _draw(self, list lanes, int model, double now_s, const native.Settings* settings, Lane barred) except -1:
        """Two that may take the request, at random, and those that got most of its prompt before."""
        cdef size_t i, n = len(lanes), begin = 0
        cdef Lane lane
        self._add_holders(lanes, model)
        cdef size_t most = self.compared.size() + DRAWN
        for i in range(MOST_DRAWS + n):
            if self.compared.size() == most:
                return 0
            if i == MOST_DRAWS and self.compared.size():
                return 0
            if i <= MOST_DRAWS:
                begin = self.draws.below(n)
            lane = <Lane>lanes[begin if i < MOST_DRAWS else (begin + i) % n]
            if lane is not barred and _takes(lane, now_s, settings.most_waiting):
                self._add(lane.replica)
        if not self.compared.size():
            self.compared.push_back(begin)  # nobody may: it says why
        return 0

    cdef int _add_holders(self, list lanes, int model) except -1:
        cdef const native.vector[native.uint32_t]* found = &self.prefixes.found()
        cdef native.uint32_t holder, bound = 0xffffffff, most
        cdef Place place
        cdef int best
        cdef size_t i
        while self.compared.size() < HOLDERS:
            best, most = -1, 0
            for i in range(found.size()):
                holder = found[0][i]
                if holder >= self.places.size():  # of an engine that is not of this pool any more
                    continue
                place = self.places[holder]
                if place.model != model or place.replica >= len(lanes) or self._has(place.replica):
                    continue
                if (<Lane>lanes[place.replica]).load.load.holder == holder and self.prefixes.matched(holder) > most:
                    best, most = place.replica, self.prefixes.matched(holder)
            if best < 0:
                return 0
            self.compared.push_back(best)
        return 0

    cdef bint _has(self, int replica) noexcept:
        cdef size_t i
        for i in range(self.compared.size()):
            if self.compared[i] == replica:
                return True
        return False

    cdef int _add(self, int replica) except -1:
        if not self._has(replica):
            self.compared.push_back(replica)
        return 0


cdef bint _takes(Lane lane, double now_s, long long most_waiting) noexcept:
    return lane.ready and now_s >= lane.open_until_s and lane.load.load.waiting() < most_waiting


cdef class Picks:
    @property
    def context_tokens(self):
        cdef size_t i
        return [self.members[i].context_tokens for i in range(self.members.size())]

    def replica(self, size_t model):
        return self.members[model].replica

    def note(self, int model):
        cdef Fleet fleet = self.fleet
        cdef Lane lane = fleet.lane(model, self.replica(model))
        fleet.prompt = self.prompt
        fleet.prefixes.look(fleet.prompt)
        cdef double share = fleet.share(lane)
        fleet.note(lane)
        return share
