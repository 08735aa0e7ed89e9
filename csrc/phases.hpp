// The phases of a request and which may follow which: the one table of them, checked in every build. Drawn in
// docs/design.md; `PHASES` in router/native/call.pyx names them.
#pragma once
#include <cstdint>
#include <initializer_list>

namespace headgate::phases {

enum Phase : int32_t { kNew, kQueued, kScoring, kWaiting, kAnswering, kFinished, kFailed, kCancelled, kPhases };

// An answer that has ended; no phase follows.
constexpr bool is_end(int32_t phase) {
  return phase >= kFinished;
}

constexpr uint32_t set_of(std::initializer_list<Phase> phases) {
  uint32_t set = 0;
  for (Phase phase : phases) set |= 1u << phase;
  return set;
}

inline constexpr uint32_t kNext[kPhases] = {
    /* kNew */ set_of({kQueued, kScoring, kWaiting, kFailed}),
    /* kQueued */ set_of({kScoring, kWaiting, kFailed, kCancelled}),
    /* kScoring */ set_of({kQueued, kWaiting, kFailed, kCancelled}),
    /* kWaiting */ set_of({kWaiting, kAnswering, kFailed, kCancelled}),  // itself: another member has it now
    /* kAnswering */ set_of({kFinished, kFailed, kCancelled}),
    // the others are ends
};

// Every phase can be reached, and every one that is no end has a way to each end that can be told to its client.
constexpr bool is_sound() {
  uint32_t reached = 1u << kNew;
  for (int round = 0; round < kPhases; ++round)
    for (int32_t from = 0; from < kPhases; ++from)
      if (reached >> from & 1) reached |= kNext[from];
  if (reached != (1u << kPhases) - 1) return false;
  for (int32_t from = 0; from < kPhases; ++from) {
    const bool fails = kNext[from] >> kFailed & 1, leaves = kNext[from] >> kCancelled & 1;
    if (is_end(from) ? kNext[from] != 0 : !fails || (from != kNew && !leaves)) return false;
  }
  return true;
}
static_assert(is_sound());

constexpr bool may_follow(int32_t from, int32_t to) {
  return kNext[from] >> to & 1;
}

}  // namespace headgate::phases
