#include "gateway/tools/calculator/limits.h"

#include "absl/strings/str_cat.h"

namespace octogate::gateway::calculator {

absl::Status WorkMeter::Charge(int64_t bits) {
  constexpr int64_t kOverheadBits = 64;
  spent_ += bits + kOverheadBits;
  if (spent_ > max_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the calculation needs more work than the limit of ", max_,
                     " bits processed; split it into smaller ones"));
  }
  if (context_.now() >= context_.deadline) {
    return absl::DeadlineExceededError("the deadline passed during the calculation");
  }
  return absl::OkStatus();
}

}  // namespace octogate::gateway::calculator
