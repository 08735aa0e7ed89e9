// Why a request leaves the native steps, each cause with the step at which it leaves. In the order of `CAUSES` in
// router/native/steps.pyx, which names them.
#pragma once
#include <cstdint>

namespace headgate {

enum Left : int32_t {
  kStays,
  // The head
  kOtherRoute,
  kInPieces,
  kPipelined,
  kHeader,
  kLargeBody,
  kNoEngine,
  kSlowHead,
  // The body
  kBody,
  kModel,
  // Admission
  kBounds,
  kKey,
  // Scores, decision, frame
  kScoring,
  kNoMember,
  kUrl,
  kBreaker,
  kSlowHost,
  kNoRoom,
  // After the hand-over; as many again, in the same order, once the answer has begun
  kFailed,
  kRefused,
  kClientGone,
  kCut,
  kAnswer,
  kJournal,
  kCauses = kJournal + 7,
};

inline constexpr int32_t kOnceBegun = kJournal + 1 - kFailed;

}  // namespace headgate
