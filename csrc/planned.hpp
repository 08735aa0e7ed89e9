// The plan of a decision: its terms as the options of a plan (csrc/plan.hpp), with what is believed of its members.
// Pure.
#pragma once
#include <cstddef>
#include <vector>

#include "numbers.hpp"
#include "plan.hpp"
#include "policy.hpp"

namespace headgate {
namespace planning {

// Whom a decision may send to: members that are ruled out softly only where there is no other and no answer yet.
inline Excluded open_rule(const std::vector<Term>& terms, const std::vector<Belief>& beliefs) {
  for (const Belief& belief : beliefs) {
    if (belief.run) return kNone;
  }
  for (const Excluded rule : {kNone, kSlo, kBreakerOpen}) {
    if (policy::any(terms, rule)) return rule;
  }
  return kNone;
}

// `beliefs` of the decision are of its members, or there are none: nothing has run, and no spread is known.
inline void options_of(const Decided& d, const std::vector<Term>& terms, std::vector<Option>* out) {
  out->clear();
  const Excluded rule = open_rule(terms, d.beliefs);
  for (size_t i = 0; i < terms.size(); ++i) {
    const Belief b = d.beliefs.empty() ? Belief{} : d.beliefs[i];
    const double quality = b.seen.given ? b.seen.value : terms[i].quality;
    const double cost_usd = b.cost_usd.given ? b.cost_usd.value : terms[i].cost_usd;
    out->push_back({quality,
                    cost_usd,
                    b.spread,
                    b.run,
                    terms[i].excluded != rule,
                    terms[i].favour,
                    {b.run && b.seen.given, terms[i].quality}});
  }
}

// By any other rule than utility one model answers: the one that it chose.
inline void as_chosen(const Decided& d, const std::vector<Option>& options, Planned* out) {
  plan(options, d.settings.price, d.question.correlation, out);
  if (out->answer >= 0) {
    out->next = -1;
  } else {
    out->next = d.choice.member;
  }
  out->then = -1;
  out->cost_usd = out->next < 0 ? 0 : options[static_cast<size_t>(out->next)].cost_usd;
}

}  // namespace planning

// Of a decision made: `choice` is filled.
inline void plan(const Decided& decided, Planned* out) {
  thread_local std::vector<Term> terms;
  thread_local std::vector<Option> options;
  policy::terms_of(decided, &terms);
  planning::options_of(decided, terms, &options);
  if (decided.settings.rule != kByUtility) return planning::as_chosen(decided, options, out);
  plan(options, decided.settings.price, decided.question.correlation, out);
  Choice choice{out->next, kUtility, -1, 0, 0};
  policy::divert(decided, terms, &choice);
  out->next = choice.member;
}

}  // namespace headgate
