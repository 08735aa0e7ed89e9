// Where what was read of a connection is cut, so that the parser ends at most one request a piece. Knows the blank line
// that ends a head or a chunked body, no other grammar.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string_view>

namespace headgate {

inline constexpr size_t kPieceBytes = 16 * 1024;      // of a head or a chunked body: bounds the callbacks of one piece
inline constexpr size_t kBodyPieceBytes = 64 * 1024;  // of a body whose length is known

// The end of the piece that begins at `at`; it may lie behind the end of `data`. `midway`: `at` may be within a blank
// line whose start was parsed before.
inline size_t piece_end(std::string_view data, size_t at, bool midway) {
  constexpr std::string_view blank = "\r\n\r\n";
  const size_t most = at + kPieceBytes;
  const std::string_view near = data.substr(0, most);
  if (midway) {
    const size_t end = near.find('\n', at);
    if (end != near.npos) return data.substr(end + 1).starts_with("\r\n") ? end + 3 : end + 1;
  }
  // A piece that was cut at the bound may have ended within a blank line.
  const size_t found = near.find(blank, at - std::min<size_t>(at, blank.size() - 1));
  if (found == near.npos) return most;
  const size_t end = found + blank.size();
  // Mostly a head and its whole body are all that is there: another request would have a blank line of its own.
  return data.size() > most || near.find(blank, end) != near.npos ? end : most;
}

}  // namespace headgate
