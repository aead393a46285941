#include "workers/engine/stop.h"

#include "absl/strings/str_cat.h"
#include "workers/engine/request.h"

namespace octogate::workers {
namespace {

// Well-formed as in the Unicode Standard, table 3-7.
bool IsValidUtf8(std::string_view text) {
  const auto continuation = [&](size_t i, unsigned char low = 0x80, unsigned char high = 0xBF) {
    if (i >= text.size()) return false;
    const auto byte = static_cast<unsigned char>(text[i]);
    return byte >= low && byte <= high;
  };
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      i += 1;
    } else if (lead >= 0xC2 && lead <= 0xDF) {
      if (!continuation(i + 1)) return false;
      i += 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      if (!continuation(i + 1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) ||
          !continuation(i + 2)) {
        return false;
      }
      i += 3;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      if (!continuation(i + 1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF) ||
          !continuation(i + 2) || !continuation(i + 3)) {
        return false;
      }
      i += 4;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::Status ValidateStopStrings(const std::vector<std::string>& stops) {
  if (stops.size() > GenerateRequest::kMaxStopStrings) {
    return absl::InvalidArgumentError(absl::StrCat("stop has ", stops.size(), " strings; at most ",
                                                   GenerateRequest::kMaxStopStrings,
                                                   " are allowed"));
  }
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] is empty"));
    }
    if (stops[i].size() > GenerateRequest::kMaxStopStringBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop[", i, "] has ", stops[i].size(), " bytes; at most ",
                       GenerateRequest::kMaxStopStringBytes, " are allowed"));
    }
    if (!IsValidUtf8(stops[i])) {
      return absl::InvalidArgumentError(absl::StrCat("stop[", i, "] is not UTF-8"));
    }
  }
  return absl::OkStatus();
}

StopMatcher::StopMatcher(const std::vector<std::string>& stops) : nodes_(1) {
  for (size_t i = 0; i < stops.size(); ++i) {
    stop_lengths_.push_back(stops[i].size());
    int32_t node = 0;
    for (char byte : stops[i]) {
      int32_t child = Child(node, byte);
      if (child < 0) {
        child = static_cast<int32_t>(nodes_.size());
        const int32_t depth = nodes_[static_cast<size_t>(node)].depth + 1;
        nodes_.push_back({.depth = depth});
        nodes_[static_cast<size_t>(node)].children.emplace_back(byte, child);
      }
      node = child;
    }
    // Of equal strings the first counts.
    Node& end = nodes_[static_cast<size_t>(node)];
    if (end.stop < 0) end.stop = static_cast<int32_t>(i);
  }
  // Breadth first: a failure link leads to a node that is less deep, and hence complete.
  std::vector<int32_t> queue = {0};
  for (size_t head = 0; head < queue.size(); ++head) {
    const int32_t node = queue[head];
    for (const auto& [byte, child] : nodes_[static_cast<size_t>(node)].children) {
      Node& target = nodes_[static_cast<size_t>(child)];
      target.failure = node == 0 ? 0 : Next(nodes_[static_cast<size_t>(node)].failure, byte);
      if (target.stop < 0) target.stop = nodes_[static_cast<size_t>(target.failure)].stop;
      queue.push_back(child);
    }
  }
}

int32_t StopMatcher::Child(int32_t node, char byte) const {
  for (const auto& [label, child] : nodes_[static_cast<size_t>(node)].children) {
    if (label == byte) return child;
  }
  return -1;
}

int32_t StopMatcher::Next(int32_t node, char byte) const {
  while (true) {
    if (const int32_t child = Child(node, byte); child >= 0) return child;
    if (node == 0) return 0;
    node = nodes_[static_cast<size_t>(node)].failure;
  }
}

std::string StopMatcher::Push(std::string_view text) {
  if (found_ >= 0) return "";
  if (nodes_.size() == 1) return std::string(text);  // there are no stop strings
  for (char byte : text) {
    held_.push_back(byte);
    state_ = Next(state_, byte);
    const Node& node = nodes_[static_cast<size_t>(state_)];
    if (node.stop >= 0) {
      found_ = node.stop;
      held_.resize(held_.size() - stop_lengths_[static_cast<size_t>(found_)]);
      return std::exchange(held_, "");
    }
  }
  const auto depth = static_cast<size_t>(nodes_[static_cast<size_t>(state_)].depth);
  std::string released = held_.substr(0, held_.size() - depth);
  held_.erase(0, released.size());
  return released;
}

std::string StopMatcher::Flush() {
  state_ = 0;
  return std::exchange(held_, "");
}

}  // namespace octogate::workers
