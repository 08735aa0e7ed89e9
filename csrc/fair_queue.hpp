// Who waits, in the order in which they are to start: lowest priority number first; within it in rounds, in each of
// which every key that has somebody waiting gets one; within a round, and of one key, the earliest deadline first, then
// the one that has waited longest. Knows no clock and nothing of who waits: they are places, small numbers.
//
// Rounds are the virtual time of start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with a cost of 1 each. A
// key's next one is due a round after its last one that was served, but not before the round that is being served: so
// one who was idle gains nothing by it, and one that leaves and comes back at once does not either.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace headgate {

class FairQueue {
 public:
  FairQueue() = default;
  FairQueue(const FairQueue&) = delete;
  FairQueue& operator=(const FairQueue&) = delete;

  size_t size() const { return size_; }

  // The place of who now waits; no other has it until this one leaves. `deadline_s`: infinite for none. `since_s`: when
  // it began to wait; of equals, who was added first comes first.
  uint32_t add(int32_t priority, uint64_t key, double deadline_s, double since_s) {
    Level& level = levels_.try_emplace(priority, priority).first->second;
    Flow& flow = level.flow_of(key);
    if (flow.waits.empty()) flow.round = std::max(flow.round, level.round);
    if (free_.empty()) {
      free_.push_back(static_cast<uint32_t>(places_.size()));
      places_.emplace_back();
    }
    const uint32_t place = free_.back();
    free_.pop_back();
    // Most have no deadline and come in the order of time: at the end, which takes constant time.
    const auto it = flow.waits.emplace_hint(flow.waits.end(), Wait{deadline_s, since_s, ++added_, place});
    places_[place] = {&flow, it};
    if (it == flow.waits.begin()) level.due(&flow);
    level.more(&flow);
    ++size_;
    return place;
  }

  // Who comes first; it waits no longer. Somebody waits.
  uint32_t next() {
    Level& level = levels_.begin()->second;
    Flow& flow = *level.first();
    const uint32_t place = flow.waits.begin()->place;
    level.round = flow.round++;
    remove(place);
    return place;
  }

  // Who would come last: of the highest priority number, of the key with the most there; of several keys, of the one
  // that got so many last. Somebody waits.
  uint32_t last() const { return levels_.rbegin()->second.most()->waits.rbegin()->place; }

  // It waits no longer.
  void remove(uint32_t place) {
    Flow* flow = places_[place].flow;
    Level* level = flow->level;
    const auto it = places_[place].wait;
    const bool first = it == flow->waits.begin();
    level->less(flow);
    flow->waits.erase(it);
    places_[place].flow = nullptr;
    free_.push_back(place);
    --size_;
    if (level->waiting == 0) {
      levels_.erase(level->priority);
      return;
    }
    if (flow->waits.empty()) {
      level->rest(flow);
    } else if (first) {
      level->due(flow);
    }
    level->forget();
  }

  // How many come before a new one of this priority, were its key the only one.
  size_t ahead(int32_t priority) const {
    size_t count = 0;
    for (const auto& [number, level] : levels_) {
      if (number > priority) break;
      count += level.waiting;
    }
    return count;
  }

 private:
  struct Wait {
    double deadline_s, since_s;
    uint64_t number;
    uint32_t place;
    bool operator<(const Wait& other) const {
      return std::tie(deadline_s, since_s, number) < std::tie(other.deadline_s, other.since_s, other.number);
    }
  };
  struct Level;
  // Those of one key and priority.
  struct Flow {
    std::set<Wait> waits;
    Level* level = nullptr;
    uint64_t key = 0;
    uint64_t round = 0;  // in which the first of `waits` is due
    size_t at = 0;       // in `Level::by_count`, while somebody waits
    bool resting = false;
  };
  // That a flow is due, unless its first one or its round is another by now.
  struct Turn {
    uint64_t round;
    double deadline_s, since_s;
    uint64_t number;
    Flow* flow;
    bool operator<(const Turn& other) const {  // later: the heaps of the library have their greatest first
      return std::tie(round, deadline_s, since_s, number) >
             std::tie(other.round, other.deadline_s, other.since_s, other.number);
    }
  };
  // Those of one priority.
  struct Level {
    explicit Level(int32_t its) : priority(its) {}
    int32_t priority;
    uint64_t round = 0;  // of who was served last
    size_t waiting = 0;
    std::deque<Flow> room;       // where flows live: one that is forgotten makes room for another
    std::vector<Flow*> no_flow;  // of it, what is free
    std::unordered_map<uint64_t, Flow*> flows;
    std::vector<Turn> turns;        // a heap: each flow with somebody waiting has a true one
    std::vector<Flow*> by_count;    // with somebody waiting, by falling count
    std::vector<size_t> with_more;  // by count: how many flows have more
    std::deque<Flow*> resting;      // of which nobody waits, remembered for their round

    Flow& flow_of(uint64_t key) {
      Flow*& flow = flows[key];
      if (flow == nullptr) {
        if (no_flow.empty()) no_flow.push_back(&room.emplace_back());
        flow = no_flow.back();
        no_flow.pop_back();
        flow->level = this;
        flow->key = key;
        flow->round = 0;
      }
      return *flow;
    }

    void due(Flow* flow) {
      if (turns.size() > 2 * by_count.size() + 64) tidy();
      const Wait& first = *flow->waits.begin();
      turns.push_back({flow->round, first.deadline_s, first.since_s, first.number, flow});
      std::push_heap(turns.begin(), turns.end());
    }

    Flow* first() {
      while (true) {
        if (is_true(turns.front())) return turns.front().flow;
        std::pop_heap(turns.begin(), turns.end());
        turns.pop_back();
      }
    }

    // A number is given once: of a flow that is another by now it is not the first one's.
    static bool is_true(const Turn& turn) {
      const Flow& flow = *turn.flow;
      return !flow.waits.empty() && flow.round == turn.round && flow.waits.begin()->number == turn.number;
    }

    void tidy() {
      std::erase_if(turns, [](const Turn& turn) { return !is_true(turn); });
      std::make_heap(turns.begin(), turns.end());
    }

    // Counts: a flow changes places with the first or the last of those that have as many.

    Flow* most() const { return by_count[with_more[by_count.front()->waits.size() - 1] - 1]; }

    void more(Flow* flow) {
      const size_t count = flow->waits.size();  // now
      if (with_more.size() <= count) with_more.resize(count + 1);
      if (count == 1) {
        flow->at = by_count.size();
        by_count.push_back(flow);
      }
      put(flow, with_more[count - 1]++);
      ++waiting;
    }

    void less(Flow* flow) {
      const size_t count = flow->waits.size();  // still
      put(flow, --with_more[count - 1]);
      if (count == 1) by_count.pop_back();
      --waiting;
    }

    void put(Flow* flow, size_t at) {
      by_count[flow->at] = by_count[at];
      by_count[flow->at]->at = flow->at;
      by_count[at] = flow;
      flow->at = at;
    }

    void rest(Flow* flow) {
      if (!flow->resting) resting.push_back(flow);
      flow->resting = true;
    }

    // Those whose round has come: they are as new ones. At most two, as one begins to rest at a time.
    void forget() {
      for (int i = 0; i < 2 && !resting.empty(); ++i) {
        Flow* flow = resting.front();
        resting.pop_front();
        if (flow->waits.empty() && flow->round > round) {
          resting.push_back(flow);
          continue;
        }
        flow->resting = false;
        if (!flow->waits.empty()) continue;
        flows.erase(flow->key);
        no_flow.push_back(flow);
      }
    }
  };
  struct Place {
    Flow* flow = nullptr;
    std::set<Wait>::iterator wait;
  };

  std::map<int32_t, Level> levels_;
  std::vector<Place> places_;
  std::vector<uint32_t> free_;
  uint64_t added_ = 0;
  size_t size_ = 0;
};

}  // namespace headgate
