// What a decision reads of a member's load: one place for live lanes and simulated engines. `matched`: as of
// `Load::hit`.
#pragma once
#include "load.hpp"
#include "numbers.hpp"

namespace headgate {

inline void look(const Load& load, double matched, Member* out) {
  const StepPrices prices = load.prices();
  out->waiting = load.waiting();
  out->prefix_hit = load.hit(matched);
  out->prefill_tokens_per_s = load.prefill_tokens_per_s();
  out->time_per_output_token_s = load.time_per_output_token_s();
  out->mean_output_tokens = load.mean_output_tokens;
  out->output_surplus = load.lengths.surplus();
  out->queued_gpu_s = load.queued_s();
  out->running = load.running();
  out->held_tokens = load.frame.context_tokens;
  out->queued_tokens = load.queued_tokens();
  out->queued_steps = load.queued_steps();
  out->busy = load.busy;
  out->overhead_s = load.overhead_s;
  out->step_s = prices.step_s, out->step_running_s = prices.step_running_s;
  out->step_context_s = prices.step_context_s, out->step_prefill_s = prices.step_prefill_s;
  out->cost_trust = prices.cost_trust, out->wait_trust = prices.wait_trust;
}

}  // namespace headgate
