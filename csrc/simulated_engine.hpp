// One engine of a simulation: batches as vLLM's scheduler makes them, and steps that take what the step model says
// (docs/price.md). Knows no other engine and no policy. Seconds, tokens.
//
//   seconds of a step = slower * (step + running * sequences + context * tokens held + prefill * prompt tokens)
//
// A step gives each sequence that decodes a token, and spends what is left of the budget of tokens on prompts, in the
// order of arrival; a prompt may be read in several steps. Blocks of the KV cache are taken as they are filled. Where
// none is left, the sequence that began last gives up its own, waits at the head of the queue, and is read anew.
//
// Steps that only decode differ by the tokens held alone, so all until the batch changes are one run: j steps of it
// take the sum of an arithmetic series. It is cut at the end of the step under way when something arrives.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

namespace headgate {
namespace simulated {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

struct Law {
  double step_s = 0, running_s = 0, context_s = 0, prefill_s = 0;
  double slowdown = 0;  // by one other engine of the device that works
};

struct Bounds {
  int64_t most_running = 256, step_tokens = 8192;
  int64_t kv_blocks = int64_t{1} << 40, block_tokens = 16;
};

struct Sequence {
  int64_t prompt = 0, cached = 0, output = 1;  // tokens
  double first_s = -1, end_s = -1, begun_s = -1;
  int64_t preempted = 0;
  // In its engine:
  int64_t written = 0;              // output tokens when it last began to decode, that step's own included
  int64_t unread = 0;               // of its prompt, and after a preemption of what it had written
  int64_t base = 0;                 // tokens that are in the KV cache when it begins to decode
  int64_t blocks = 0;               // taken while its prompt is read
  int64_t since = 0;                // the engine's step in which it began to decode
  int64_t turn = 0;                 // grows each time it begins, so that an older end is known as such
  int64_t before = -1, after = -1;  // those that began before and after it
};

class Engine {
 public:
  Law law;
  Bounds bounds;
  std::vector<int64_t> ended;  // by the last `step_ended`, to be taken by the caller
  int64_t steps = 0;           // all of them
  int64_t preemptions = 0, prefill_tokens = 0, output_tokens = 0;
  double slower = 1;  // of the run that is planned next

  Engine(const Law& its, const Bounds& kept, std::vector<Sequence>* all)
      : law(its), bounds(kept), free_(kept.kv_blocks), phases_(kept.block_tokens), all_(all) {}

  bool idle() const { return next_s_ == kNever; }
  double next_s() const { return next_s_; }
  int64_t unfinished() const { return unfinished_; }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }

  // Seconds in which it worked, up to `now_s`.
  double worked_s(double now_s) const { return worked_s_ + (idle() ? 0 : std::max(0.0, now_s - run_.from_s)); }

  // Running sequences as the step that ended last left them, and tokens that those hold which decode.
  int64_t running() const { return told_running_; }
  int64_t held(double now_s) const {
    if (idle() || run_.prompts) return context_;
    return context_ + decoding_ * ended_by(now_s);
  }

  void arrive(int64_t id, double now_s) {
    Sequence& it = at(id);
    it.base = it.prompt;
    it.unread = std::max<int64_t>(1, it.prompt - it.cached);  // the last token of a prompt is always computed
    waiting_.push_back(id);
    ++unfinished_;
    if (idle()) {
      plan(now_s);
    } else if (count_ < bounds.most_running) {
      cut(now_s);
    }
  }

  // The run under way ends with the first step that ends at `now_s` or later.
  void cut(double now_s) {
    if (idle() || run_.steps <= 1) return;
    const int64_t ended = ended_by(now_s);
    const int64_t whole = seconds_of(ended) < now_s - run_.from_s ? ended + 1 : std::max<int64_t>(1, ended);
    if (whole >= run_.steps) return;
    run_.steps = whole;
    next_s_ = run_.from_s + seconds_of(whole);
  }

  // At `next_s`. Fills `ended`; the caller then calls `plan`.
  void step_ended() {
    const double now_s = next_s_;
    ended.clear();
    worked_s_ += now_s - run_.from_s;
    steps += run_.steps;
    context_ += decoding_ * run_.steps;
    output_tokens += decoding_ * run_.steps;
    free_ -= blocks_in(run_.steps);
    decoded_ += run_.steps;
    while (!ends_.empty() && ends_.top().step <= decoded_) {
      const End end = ends_.top();
      ends_.pop();
      if (at(end.id).turn == end.turn) finish(end.id, now_s);
    }
    for (const int64_t id : fresh_) begin(id, now_s);
    fresh_.clear();
    told_running_ = count_;
    next_s_ = kNever;
  }

  // What the engine does next, from `now_s` on.
  void plan(double now_s) {
    run_ = {now_s, 0, 0, 0, 0};
    if (count_ == 0 && waiting_.empty()) return;
    const bool gave_up = make_room();
    const int64_t kept = blocks_in(1);  // for those that decode
    int64_t left = bounds.step_tokens - decoding_;
    if (partial_ >= 0) left -= read(partial_, left);
    while (!gave_up && left > 0 && !waiting_.empty() && count_ < bounds.most_running) {
      const int64_t id = waiting_.front();
      Sequence& it = at(id);
      const int64_t now = std::min(left, it.unread);
      if (blocks_of(it.base - it.unread + now) > free_ - kept) break;
      waiting_.pop_front();
      if (it.begun_s < 0) it.begun_s = now_s;
      push(id);
      left -= read(id, left);
    }
    const double running = static_cast<double>(decoding_) + static_cast<double>(fresh_.size());
    const double context = static_cast<double>(context_ + run_.fresh_context);
    const double prefill = static_cast<double>(run_.prefill);
    run_.first_s = slower * (law.step_s + running * law.running_s + context * law.context_s + prefill * law.prefill_s);
    run_.more_s = slower * running * law.context_s;
    run_.prompts = run_.prefill > 0;
    // After a step in which somebody gave up, those that wait are looked at again.
    run_.steps = run_.prompts || gave_up ? 1 : most_steps();
    prefill_tokens += run_.prefill;
    next_s_ = now_s + seconds_of(run_.steps);
  }

 private:
  struct Run {
    double from_s;
    int64_t steps, prefill, fresh_context;
    double first_s;
    double more_s = 0;  // that each step takes longer than the one before
    bool prompts = false;
  };

  struct End {
    int64_t step, id, turn;
    bool operator<(const End& other) const {  // the earliest on top; of one step that which arrived first
      return step != other.step ? step > other.step : id > other.id;
    }
  };

  Sequence& at(int64_t id) { return (*all_)[static_cast<size_t>(id)]; }

  int64_t blocks_of(int64_t tokens) const { return (tokens + bounds.block_tokens - 1) / bounds.block_tokens; }

  double seconds_of(int64_t steps) const {
    const double j = static_cast<double>(steps);
    return j * run_.first_s + run_.more_s * (j * (j - 1) / 2);
  }

  // Steps of the run that have ended by `now_s`.
  int64_t ended_by(double now_s) const {
    const double passed_s = now_s - run_.from_s;
    if (passed_s >= seconds_of(run_.steps)) return run_.steps;
    // more/2 j^2 + (first - more/2) j = passed, in the form that loses no digits where `more` is next to nothing
    const double half = run_.more_s / 2, b = run_.first_s - half;
    const double root = std::sqrt(b * b + 4 * half * std::max(0.0, passed_s));
    double guess = b + root > 0 ? 2 * std::max(0.0, passed_s) / (b + root) : static_cast<double>(run_.steps);
    guess = std::min(guess, static_cast<double>(run_.steps));
    auto j = static_cast<int64_t>(guess);
    while (j > 0 && seconds_of(j) > passed_s) --j;
    while (j < run_.steps && seconds_of(j + 1) <= passed_s) ++j;
    return j;
  }

  // Blocks that the sequences which decode fill anew in the next `steps` steps.
  int64_t blocks_in(int64_t steps) const {
    const int64_t size = bounds.block_tokens;
    int64_t blocks = decoding_ * (steps / size);
    for (int64_t i = 1; i <= steps % size; ++i) blocks += phases_[static_cast<size_t>((decoded_ + i) % size)];
    return blocks;
  }

  // Until the batch changes by itself.
  int64_t most_steps() {
    while (!ends_.empty() && at(ends_.top().id).turn != ends_.top().turn) ends_.pop();
    int64_t most = ends_.empty() ? 1 : std::max<int64_t>(1, ends_.top().step - decoded_);
    if (blocks_in(most) <= free_) return most;
    int64_t fits = 1;  // `make_room` has seen to it
    while (most - fits > 1) {
      const int64_t middle = fits + (most - fits) / 2;
      (blocks_in(middle) <= free_ ? fits : most) = middle;
    }
    return fits;
  }

  // The next step's blocks for those that decode, then for the prompt that is half read. True: somebody gave up its
  // own.
  bool make_room() {
    bool gave_up = false;
    while (last_ >= 0 && (blocks_in(1) > free_ || (partial_ >= 0 && blocks_in(1) + partial_blocks() > free_))) {
      preempt(last_);
      gave_up = true;
    }
    return gave_up;
  }

  int64_t partial_blocks() {
    const Sequence& it = at(partial_);
    const int64_t now = std::min(it.unread, bounds.step_tokens - decoding_);
    return blocks_of(it.base - it.unread + now) - it.blocks;
  }

  // Reads on in the prompt of a running sequence. Returns the tokens read.
  int64_t read(int64_t id, int64_t left) {
    Sequence& it = at(id);
    const int64_t now = std::min(left, it.unread);
    it.unread -= now;
    const int64_t blocks = blocks_of(it.base - it.unread);
    free_ -= blocks - it.blocks;
    it.blocks = blocks;
    run_.prefill += now;
    if (it.unread > 0) {
      partial_ = id;
    } else {
      if (partial_ == id) partial_ = -1;
      fresh_.push_back(id);
      run_.fresh_context += it.base;
    }
    return now;
  }

  // Its prompt is read: it has a token more, and decodes from now on.
  void begin(int64_t id, double now_s) {
    Sequence& it = at(id);
    it.written += 1;
    output_tokens += 1;
    it.since = decoded_;
    if (it.first_s < 0) it.first_s = now_s;
    ++it.turn;
    ++decoding_;
    context_ += it.base + 1;
    ++phases_[phase_of(it)];
    if (it.written >= it.output) {
      finish(id, now_s);
    } else {
      ends_.push({decoded_ + it.output - it.written, id, it.turn});
    }
  }

  size_t phase_of(const Sequence& it) const {
    const int64_t size = bounds.block_tokens;
    return static_cast<size_t>((((it.since - it.base + 1) % size) + size) % size);
  }

  // Takes a sequence that decodes out of the batch, with its blocks.
  void stop(int64_t id) {
    Sequence& it = at(id);
    const int64_t steps = decoded_ - it.since;
    --phases_[phase_of(it)];
    --decoding_;
    context_ -= it.base + 1 + steps;
    free_ += blocks_of(it.base + steps);
    it.written += steps;
    ++it.turn;
    unlink(id);
  }

  void finish(int64_t id, double now_s) {
    stop(id);
    at(id).end_s = now_s;
    --unfinished_;
    ended.push_back(id);
  }

  void preempt(int64_t id) {
    Sequence& it = at(id);
    if (partial_ == id) {
      partial_ = -1;
      free_ += it.blocks;
      unlink(id);
    } else {
      stop(id);
      it.base = it.prompt + it.written;
    }
    it.unread = std::max<int64_t>(1, it.base - it.cached);
    it.blocks = 0;
    ++it.preempted;
    ++preemptions;
    waiting_.push_front(id);
  }

  void push(int64_t id) {
    at(id).before = last_, at(id).after = -1;
    if (last_ >= 0) at(last_).after = id;
    last_ = id;
    ++count_;
  }

  void unlink(int64_t id) {
    const Sequence& it = at(id);
    if (it.before >= 0) at(it.before).after = it.after;
    if (it.after >= 0) {
      at(it.after).before = it.before;
    } else {
      last_ = it.before;
    }
    --count_;
  }

  int64_t free_;                 // blocks
  std::vector<int64_t> phases_;  // sequences that decode, by the step, modulo a block, in which they need a new block
  std::vector<Sequence>* all_;
  std::deque<int64_t> waiting_;
  std::priority_queue<End> ends_;
  std::vector<int64_t> fresh_;  // whose prompts end in the step under way
  int64_t partial_ = -1;        // whose prompt is half read: the last that began
  int64_t last_ = -1;           // of the running ones, the one that began last
  int64_t count_ = 0;           // running: those that decode, the half read one, and the fresh ones
  int64_t decoding_ = 0, context_ = 0, decoded_ = 0;  // sequences; tokens they hold; steps so far
  int64_t unfinished_ = 0, told_running_ = 0;
  double next_s_ = kNever, worked_s_ = 0;
  Run run_{0, 0, 0, 0, 0};
};

}  // namespace simulated
}  // namespace headgate
