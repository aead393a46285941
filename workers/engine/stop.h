// Finds stop strings in text that arrives in pieces.
//
// What is found does not depend on where the pieces end: the stop string that is complete first
// wins, the longest of those that are complete at the same byte. Search is by the automaton of Aho
// and Corasick, "Efficient string matching", CACM 18(6), 1975: constant work for a byte on average,
// and at any time the depth of the current state is the length of the longest end of the text that
// may still become a stop string. That much is held back, and no more.
#ifndef OCTOGATE_WORKERS_ENGINE_STOP_H_
#define OCTOGATE_WORKERS_ENGINE_STOP_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace octogate::workers {

// INVALID_ARGUMENT for too many, too long or empty stop strings, and for text that is not UTF-8
// (GenerateRequest has the limits).
absl::Status ValidateStopStrings(const std::vector<std::string>& stops);

// Not thread-safe: one per answer.
class StopMatcher {
 public:
  // `stops` have been validated.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // Takes whole characters of UTF-8; returns text that is now known to be part of the answer, in
  // whole characters too. Once a stop string is found, everything from its beginning on is dropped.
  std::string Push(std::string_view text);
  // The text that was still held back: the answer has ended.
  std::string Flush();

  // The stop string that was found; -1 while there is none.
  int found() const { return found_; }

 private:
  struct Node {
    std::vector<std::pair<char, int32_t>> children;  // a few; searched one by one
    int32_t failure = 0;                             // the longest proper end that is a node
    int32_t depth = 0;
    int32_t stop = -1;  // the longest stop string that ends here
  };

  int32_t Child(int32_t node, char byte) const;
  int32_t Next(int32_t node, char byte) const;

  std::vector<Node> nodes_;  // nodes_[0] is the root
  std::vector<size_t> stop_lengths_;
  int32_t state_ = 0;
  std::string held_;
  int found_ = -1;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_STOP_H_
