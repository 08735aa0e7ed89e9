// A pool in simulated time: requests arrive, pass the gate, are decided by the policy that serves (policy.hpp) on loads
// that are told as late as live ones are, and run in simulated engines. Events: arrivals, ends of engines' runs, a wait
// at the gate that is over, windows in which it is seen how busy devices are. Reads no clock. Seconds, tokens, USD.
//
//   arrivals --> gate --> replica of each model --> decide --> engine --> ended --> gate
//                  ^                                                                  |
//                  +------------------------------------------------------------------+
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "policy.hpp"
#include "replicas.hpp"
#include "simulated_gate.hpp"
#include "simulated_unit.hpp"

namespace headgate {
namespace simulated {

// How a request ended.
enum Status : uint8_t {
  kOpen,
  kAnswered,
  kGateFull,    // no place in the gate's queue
  kGateLate,    // waited there for as long as it may
  kQueuesFull,  // every engine's queue
  kNoModel,     // no model can take it: its prompt is too long for all
  kTooLong,     // the engine that it went to refused its length
};

struct Asked {
  double at_s = 0;
  int64_t rule = 0, prompt = 0, cached = 0;
  int64_t estimate = 0;     // of the prompt: what decisions go by
  int64_t max_tokens = -1;  // below 0: not given
};

struct Result {
  Status status = kOpen;
  int64_t engine = -1;
  double gate_s = 0;  // when it passed the gate
};

// The engine whose run ends first. Of one time the one of the lowest number.
class Agenda {
 public:
  explicit Agenda(size_t size) : at_(size), order_(size), when_(size, kNever) {
    for (size_t i = 0; i < size; ++i) at_[i] = order_[i] = i;
  }

  size_t first() const { return order_[0]; }
  double first_s() const { return when_[order_[0]]; }

  void set(size_t id, double at_s) {
    when_[id] = at_s;
    size_t i = at_[id];
    while (i && before(order_[i], order_[(i - 1) / 2])) swap(i, (i - 1) / 2), i = (i - 1) / 2;
    for (;;) {
      size_t least = i;
      for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < order_.size(); ++child) {
        if (before(order_[child], order_[least])) least = child;
      }
      if (least == i) return;
      swap(i, least);
      i = least;
    }
  }

 private:
  bool before(size_t a, size_t b) const { return when_[a] != when_[b] ? when_[a] < when_[b] : a < b; }

  void swap(size_t i, size_t j) {
    std::swap(order_[i], order_[j]);
    at_[order_[i]] = i, at_[order_[j]] = j;
  }

  std::vector<size_t> at_, order_;  // place of an engine; engine of a place
  std::vector<double> when_;
};

class Simulation {
 public:
  std::vector<Asked> asked;
  std::vector<Sequence> sequences;
  std::vector<Result> results;
  std::vector<Score> scores;     // [request, model]
  std::vector<int64_t> outputs;  // [request, model]
  std::vector<Settings> rules;
  int64_t decisions = 0, events = 0;
  double now_s = 0;

  Simulation(const std::vector<EngineSpec>& specs, size_t models, const GateLimits& limits, double report_s,
             uint64_t seed)
      : gate_(limits), agenda_(specs.size()), replicas_(models), report_s_(report_s) {
    draws_.seed = seed;
    // Loads are some 40 KB each, and are not moved.
    for (size_t i = 0; i < specs.size(); ++i) {
      units_.push_back(std::make_unique<Unit>(specs[i], &sequences));
      replicas_[static_cast<size_t>(specs[i].model)].push_back(i);
    }
    decided_.members.resize(models);
    decided_.scores.resize(models);
    chosen_.resize(models);
  }

  Simulation(const Simulation&) = delete;

  size_t models() const { return replicas_.size(); }
  size_t engines() const { return units_.size(); }
  const Engine& engine(size_t id) const { return units_[id]->engine; }
  int64_t arrived() const { return static_cast<int64_t>(next_); }
  int64_t ended() const { return ended_; }

  void reserve(size_t requests) {
    asked.resize(requests), sequences.resize(requests), results.resize(requests);
    scores.resize(requests * models()), outputs.resize(requests * models());
  }

  // Until `arrivals` more have come, or nothing is left to be done. False: nothing is.
  bool advance(int64_t arrivals) {
    const size_t until = std::min(asked.size(), next_ + static_cast<size_t>(arrivals));
    while (next_ < until || (next_ == asked.size() && ended_ < static_cast<int64_t>(asked.size()))) step();
    return next_ < asked.size();
  }

 private:
  static constexpr double kWindowS = 0.25;   // pool/costs.py
  static constexpr int64_t kForgotten = 64;  // idle windows after which a device was busy for no time

  void step() {
    ++events;
    const double arrives_s = next_ < asked.size() ? asked[next_].at_s : kNever;
    const double ends_s = agenda_.first_s(), late_s = gate_.too_late_s();
    const double other_s = std::min(arrives_s, std::min(ends_s, late_s));
    if (window_s_ <= other_s) return window(other_s);
    now_s = other_s;
    if (ends_s <= other_s) return run_ended(agenda_.first());
    if (late_s <= other_s) return close(gate_.give_up(now_s), kGateLate);
    const auto id = static_cast<int64_t>(next_++);
    const Gate::Answer answer = gate_.take(id, now_s);
    if (answer == Gate::kRefused) close(id, kGateFull);
    if (answer == Gate::kBegins) begin(id);
  }

  // How busy each engine was, and its neighbours: `learn` of pool/costs.py.
  void window(double until_s) {
    now_s = window_s_;
    for (auto& unit : units_) unit->window(now_s, kWindowS);
    bool quiet = true;
    for (auto& unit : units_) {
      double others = 0;
      for (const int64_t id : unit->spec.beside) others += units_[static_cast<size_t>(id)]->share;
      unit->load.learn(others, std::min(1.0, unit->share + others));
      quiet = quiet && unit->engine.idle();
    }
    window_s_ += kWindowS;
    idle_windows_ = quiet ? idle_windows_ + 1 : 0;
    if (idle_windows_ > kForgotten && until_s < kNever) {
      window_s_ = std::max(window_s_, std::floor(until_s / kWindowS) * kWindowS);
    }
  }

  // It has passed the gate.
  void begin(int64_t id) {
    Result& result = results[static_cast<size_t>(id)];
    result.gate_s = now_s;
    decided_.tried.clear();
    for (size_t tries = 0; tries < 2; ++tries) {
      const int32_t model = decide_for(id);
      if (model < 0) return leave(id, tries ? kTooLong : refusal());
      const size_t engine = chosen_[static_cast<size_t>(model)];
      if (asked[static_cast<size_t>(id)].prompt < units_[engine]->context()) return submit(id, engine, model);
      decided_.tried.push_back(model);
    }
    leave(id, kTooLong);
  }

  // Without an answer, but with a slot of the gate.
  void leave(int64_t id, Status why) {
    gate_.ended(results[static_cast<size_t>(id)].gate_s, now_s);
    close(id, why);
  }

  void close(int64_t id, Status how) {
    results[static_cast<size_t>(id)].status = how;
    ++ended_;
  }

  int32_t decide_for(int64_t id) {
    const Asked& request = asked[static_cast<size_t>(id)];
    decided_.question = chat_question(request.estimate, 1, request.max_tokens, 0);
    decided_.settings = rules[static_cast<size_t>(request.rule)];
    for (size_t model = 0; model < models(); ++model) {
      decided_.scores[model] = scores[static_cast<size_t>(id) * models() + model];
      decided_.members[model] = nearest(model);
    }
    decide(&decided_);
    ++decisions;
    return decided_.choice.member;
  }

  Status refusal() {
    thread_local std::vector<Term> terms;
    policy::terms_of(decided_, &terms);
    return policy::any(terms, kQueueFull) ? kQueuesFull : kNoModel;
  }

  // The engine of a model that would take the request, as a member: by the rule that serves (replicas.hpp), of all of
  // few, of two that are drawn of many.
  Member nearest(size_t model) {
    const std::vector<size_t>& all = replicas_[model];
    rows_.clear();
    if (all.size() <= policy::kMostCompared) {
      for (size_t i = 0; i < all.size(); ++i) row(model, i);
    } else {
      const size_t one = draws_.below(all.size());
      row(model, one);
      row(model, (one + 1 + draws_.below(all.size() - 1)) % all.size());
    }
    const Member best = all.size() > 1
                            ? policy::best_replica(rows_.data(), rows_.size(), decided_.question, decided_.settings)
                            : rows_[0];
    chosen_[model] = all[static_cast<size_t>(best.replica)];
    return best;
  }

  void row(size_t model, size_t replica) {
    rows_.push_back(units_[replicas_[model][replica]]->member(now_s, report_s_));
    rows_.back().replica = static_cast<int32_t>(replica);
    rows_.back().replicas = replicas_[model].size() > 1 ? static_cast<int64_t>(replicas_[model].size()) : 0;
  }

  void submit(int64_t id, size_t at, int32_t model) {
    Unit& unit = *units_[at];
    const Asked& request = asked[static_cast<size_t>(id)];
    Sequence& it = sequences[static_cast<size_t>(id)];
    it.prompt = request.prompt, it.cached = std::min(request.cached, request.prompt);
    int64_t output = outputs[static_cast<size_t>(id) * models() + static_cast<size_t>(model)];
    if (request.max_tokens > 0) output = std::min(output, request.max_tokens);
    it.output = std::max<int64_t>(1, std::min(output, unit.context() - request.prompt));
    results[static_cast<size_t>(id)].engine = static_cast<int64_t>(at);
    unit.load.submitted(request.estimate);
    unit.engine.slower = unit.slower();
    unit.engine.arrive(id, now_s);
    settle(at);
  }

  // The engine's agenda, and its neighbours', follow what has become of it.
  void settle(size_t at) {
    Unit& unit = *units_[at];
    agenda_.set(at, unit.engine.next_s());
    const bool busy = !unit.engine.idle();
    if (busy == unit.busy) return;
    unit.busy = busy;
    for (const int64_t id : unit.spec.beside) {
      Unit& other = *units_[static_cast<size_t>(id)];
      other.busy_beside += busy ? 1 : -1;
      if (other.spec.law.slowdown > 0) {
        other.engine.cut(now_s);
        agenda_.set(static_cast<size_t>(id), other.engine.next_s());
      }
    }
  }

  void run_ended(size_t at) {
    Unit& unit = *units_[at];
    if (!unit.calm) unit.tell(now_s, report_s_, false);
    unit.engine.step_ended();
    for (const int64_t id : unit.engine.ended) answered(&unit, id);
    unit.engine.slower = unit.slower();
    unit.engine.plan(now_s);
    if (unit.calm) unit.tell(now_s, report_s_, true);
    settle(at);
    while (gate_.lets_in()) begin(gate_.next(now_s));
  }

  void answered(Unit* unit, int64_t id) {
    const Result& result = results[static_cast<size_t>(id)];
    const Sequence& it = sequences[static_cast<size_t>(id)];
    unit->answered(it, result.gate_s);
    const size_t cell = static_cast<size_t>(id) * models() + static_cast<size_t>(unit->spec.model);
    const Score& expected = scores[cell];
    unit->load.lengths.learn(expected.output_tokens, expected.output_log_sd, static_cast<double>(it.output),
                             it.output < outputs[cell]);
    gate_.ended(result.gate_s, now_s);
    close(id, kAnswered);
  }

  Gate gate_;
  Agenda agenda_;
  std::vector<std::unique_ptr<Unit>> units_;
  std::vector<std::vector<size_t>> replicas_;  // engines of each model
  std::vector<size_t> chosen_;                 // engine of each model for the decision under way
  Decided decided_;
  std::vector<Member> rows_;  // engines of one model that are compared
  policy::Draws draws_;
  double report_s_, window_s_ = kWindowS;
  size_t next_ = 0;
  int64_t ended_ = 0, idle_windows_ = 0;
};

}  // namespace simulated
}  // namespace headgate
