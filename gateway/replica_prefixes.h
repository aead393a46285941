// Which beginnings of prompts a replica holds, as a gateway knows it: by the replica's last
// summary, and by the prompts which this gateway has given to it since.
//
// Not thread-safe.
#ifndef OCTOGATE_GATEWAY_REPLICA_PREFIXES_H_
#define OCTOGATE_GATEWAY_REPLICA_PREFIXES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "octogate/v1/worker.pb.h"

namespace octogate::gateway {

class ReplicaPrefixes {
 public:
  using Blocks = absl::flat_hash_set<uint32_t>;

  // INVALID_ARGUMENT for a summary that is not as the protocol says, or whose blocks are of another
  // size than this gateway's: it is of no use then.
  static absl::StatusOr<Blocks> Parse(const v1::PrefixSummary& summary);

  // What the replica has said now. What was sent to it before its last but one summary, and is in
  // neither, counts no more: it has come to nothing, or is gone.
  void SetSummary(Blocks blocks);
  // A prompt was sent to it, or has not been taken: in the latter case none of its blocks counts
  // as sent, not by other prompts either.
  void OnSent(std::span<const uint32_t> blocks);
  void OnRefused(std::span<const uint32_t> blocks);
  // It holds nothing any more, as far as is known.
  void Clear();

  // Whether it has ever said what it holds, since Clear.
  bool known() const { return known_; }
  // How many of a prompt's first blocks it holds. In logarithmic time: of what lies behind a block
  // that is missing, it may count some where the summary is not of whole beginnings.
  size_t Matched(std::span<const uint32_t> blocks) const;

 private:
  bool Holds(uint32_t block) const {
    return summary_.contains(block) || sent_.contains(block) || sent_before_.contains(block);
  }

  bool known_ = false;
  Blocks summary_;
  Blocks sent_;         // since the last summary
  Blocks sent_before_;  // between the last two
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLICA_PREFIXES_H_
