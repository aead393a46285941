// What a peer says went wrong, as others are told of it.
#ifndef OCTOGATE_GATEWAY_PEER_ERROR_H_
#define OCTOGATE_GATEWAY_PEER_ERROR_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "common/utf8.h"

namespace octogate::gateway {

inline constexpr size_t kMaxPeerErrorBytes = 200;

// Fit for a string field, and no longer than a line or two.
inline std::string PeerError(std::string_view text) {
  return SanitizeUtf8(text, kMaxPeerErrorBytes);
}

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_PEER_ERROR_H_
