// The journal's line of one request that native code has seen to its end: what `observe.record.Record` says of it, in
// the same order. What is 0, absent or empty is left out where the record has that as its default.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "frame.hpp"
#include "json_write.hpp"
#include "numbers.hpp"
#include "policy.hpp"

namespace headgate {

// An answer that is complete. Seconds; times but `time_s` from the request's receipt.
struct FinishedRequest {
  std::string_view id, request_id, asked, key_id, session_id, finish_reason, reason;
  bool stream;
  double time_s;      // of receipt, since the epoch
  double overhead_s;  // to its hand-over
  double first_s;     // to the first bytes of the answer
  double total_s;
  Finish finish;
};

// Mean time per output token, the first excluded; NaN where the engine's claims say nothing.
inline double tpot_s(const Finish& f) {
  if (f.completion_tokens < 2 || f.total_s <= 0 || f.total_s < f.first_token_s) return NAN;
  return (f.total_s - f.first_token_s) / static_cast<double>(f.completion_tokens - 1);
}

inline double known_or_0(double value) {
  return std::isfinite(value) ? value : 0;
}

// Engine seconds by the policy's sum with the answer's own tokens; NaN where the member's rates are not known.
inline double spent_s(const Finish& f, const Member& m) {
  const double prefill = known_or_0(m.prefill_tokens_per_s), token_s = known_or_0(m.time_per_output_token_s);
  if (prefill == 0 || token_s == 0) return NAN;
  const int64_t uncached = std::max<int64_t>(f.prompt_tokens - f.cached_tokens, 0);
  return static_cast<double>(uncached) / prefill + static_cast<double>(f.completion_tokens) * token_s;
}

// Lines, one after another.
class RecordLines {
 public:
  TableWriter tables;
  std::string version;  // of the record's schema
  Written lines;

  // The models of what is put from now on.
  void name_models(const std::vector<std::string_view>& models) {
    Written all;
    names_.clear();
    for (const std::string_view& model : models) {
      Written name;
      name.put_text(model);
      names_.emplace_back(name.data(), name.size());
      all.put(names_.size() > 1 ? "," : "[");
      all.put(names_.back());
    }
    all_names_.assign(all.data(), all.size());
  }

  void put(const FinishedRequest& request, const Decided& decided) {
    const std::string& model = names_[static_cast<size_t>(decided.choice.member)];
    text("{\"type\":\"request\",\"version\":", version);
    named_text(",\"id\":", request.id);
    named_text(",\"request_id\":", request.request_id);
    number(",\"time_s\":", request.time_s);
    named_text(",\"kind\":\"chat\",\"asked\":", request.asked);
    if (!request.key_id.empty()) named_text(",\"key_id\":", request.key_id);
    if (!request.session_id.empty()) named_text(",\"session_id\":", request.session_id);
    if (request.stream) text(",\"stream\":", "true");
    text(",\"decision\":{\"model\":", model);
    put_choice(request, decided);
    put_numbers(decided);
    text("}},\"legs\":[{\"model\":", model);
    integer(",\"member\":", decided.choice.member);
    number(",\"end\":\"finish\",\"begun_s\":", request.overhead_s);
    number(",\"ended_s\":", request.total_s);
    const Member& chosen = decided.members[static_cast<size_t>(decided.choice.member)];
    if (chosen.replicas) {  // `config.replicas.engine_name`
      text(",\"engine\":", std::string_view(model).substr(0, model.size() - 1));
      integer("/", chosen.replica);
      lines.put('"');
    }
    text("}],\"model\":", model);
    text(",\"end\":\"finish\",\"status\":200", request.finish_reason.empty() ? "" : ",\"finish_reason\":");
    if (!request.finish_reason.empty()) lines.put_text(request.finish_reason);
    put_usage(request, decided.members[static_cast<size_t>(decided.choice.member)]);
  }

 private:
  void text(std::string_view name, std::string_view written) {
    lines.put(name);
    lines.put(written);
  }

  void named_text(std::string_view name, std::string_view value) {
    lines.put(name);
    lines.put_text(value);
  }

  void integer(std::string_view name, int64_t value) {
    lines.put(name);
    lines.put_integer(value);
  }

  // A number that may be absent: NaN.
  void number(std::string_view name, double value) {
    if (std::isnan(value)) return;
    lines.put(name);
    tables.number(&lines, value);
  }

  void count(std::string_view name, int64_t value) {
    if (value) integer(name, value);
  }

  void put_choice(const FinishedRequest& request, const Decided& decided) {
    const Choice& choice = decided.choice;
    integer(",\"member\":", choice.member);
    named_text(",\"reason\":", request.reason);
    if (choice.runner_up >= 0) text(",\"runner_up\":", names_[static_cast<size_t>(choice.runner_up)]);
    number(",\"margin\":", choice.margin);
    number(",\"score\":", choice.score);
    if (choice.reason == kThreshold) number(",\"threshold\":", decided.settings.threshold);
  }

  void put_numbers(const Decided& decided) {
    text(",\"numbers\":{\"models\":", all_names_);
    text("],\"question\":", "{");
    tables.values(&lines, query_table(), &decided.question, true);
    tables.values(&lines, prompt_table(), &decided.question, false);
    if (decided.question.draw > 0) tables.values(&lines, draw_table(), &decided.question, false);
    put_settings(decided.settings);
    for (size_t i = 0; i < decided.tried.size(); ++i) integer(i ? "," : ",\"excluded\":[", decided.tried[i]);
    if (!decided.tried.empty()) lines.put(']');
    lines.put(",\"members\":");
    tables.columns(&lines, &members_, decided.members);
    lines.put(",\"scores\":");
    tables.columns(&lines, &scores_, decided.scores);
    lines.put(",\"terms\":");
    policy::terms_of(decided, &now_terms_);
    tables.columns(&lines, &terms_, now_terms_);
  }

  // Mostly those of the request before.
  void put_settings(const Settings& settings) {
    if (settings_.empty() || std::memcmp(&settings, &of_settings_, sizeof(Settings)) != 0) {
      Written out;
      tables.values(&out, settings_table(), &settings, true);
      settings_ = "},\"settings\":{" + std::string(out.data(), out.size()) + "}";
      std::memcpy(&of_settings_, &settings, sizeof(Settings));
    }
    lines.put(settings_);
  }

  void put_usage(const FinishedRequest& request, const Member& member) {
    const Finish& finish = request.finish;
    lines.put(",\"streamed\":true");
    count(",\"prompt_tokens\":", finish.prompt_tokens);
    count(",\"completion_tokens\":", finish.completion_tokens);
    count(",\"cached_tokens\":", finish.cached_tokens);
    number(",\"queue_s\":0.0,\"overhead_s\":", request.overhead_s);  // who waits leaves the native steps
    const double whole_s = finish.first_token_s != 0 ? finish.first_token_s : NAN;
    number(",\"ttft_s\":", request.stream ? request.first_s : whole_s);
    number(",\"tpot_s\":", tpot_s(finish));
    number(",\"total_s\":", request.total_s);
    const double engine_s = spent_s(finish, member), usd_per_s = known_or_0(member.usd_per_s);
    number(",\"engine_s\":", engine_s);
    if (usd_per_s != 0) number(",\"cost_usd\":", engine_s * usd_per_s);
    lines.put("}\n");
  }

  std::vector<std::string> names_;  // of the models, with quotes
  std::string all_names_;           // of a list, but for its end
  std::string settings_;            // as they were last written
  Settings of_settings_{};
  TableWriter::Columns members_{member_table()}, scores_{score_table()}, terms_{term_table()};
  std::vector<Term> now_terms_;
};

}  // namespace headgate
