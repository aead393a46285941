#include "common/redis/redis_slots.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate {
namespace {

// x^16 + x^12 + x^5 + 1, the highest bit first.
constexpr std::array<uint16_t, 256> kCrcTable = [] {
  std::array<uint16_t, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    unsigned crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc & 0x8000U) != 0 ? (crc << 1) ^ 0x1021U : crc << 1;
    }
    table[byte] = static_cast<uint16_t>(crc);
  }
  return table;
}();

bool IsPort(int64_t port) { return port >= 1 && port <= 65535; }

absl::Status NoTopology(const char* why) {
  return absl::InternalError(absl::StrCat("what Redis answers to CLUSTER SLOTS ", why));
}

// The node of an entry; nullopt where the server does not know its address.
absl::StatusOr<std::optional<RedisAddress>> ParseNode(const RedisReply& node,
                                                      const RedisAddress& asked) {
  if (node.kind != RedisReply::Kind::kArray || node.elements.size() < 2 ||
      !IsPort(node.elements[1].integer)) {
    return NoTopology("has a node without an address");
  }
  const RedisReply& host = node.elements[0];
  if (host.kind == RedisReply::Kind::kText && host.text == "?") return std::nullopt;
  if (host.kind != RedisReply::Kind::kText && host.kind != RedisReply::Kind::kNil) {
    return NoTopology("has a node without a host");
  }
  return RedisAddress{.host = host.text.empty() ? asked.host : host.text,
                      .port = static_cast<int>(node.elements[1].integer)};
}

}  // namespace

int RedisSlot(std::string_view key) {
  if (const size_t open = key.find('{'); open != std::string_view::npos) {
    const size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) {
      key = key.substr(open + 1, close - open - 1);
    }
  }
  unsigned crc = 0;
  for (const char c : key) {
    crc = ((crc << 8) & 0xffffU) ^ kCrcTable[((crc >> 8) ^ static_cast<unsigned char>(c)) & 0xffU];
  }
  return static_cast<int>(crc % kRedisSlots);
}

std::optional<std::string_view> RedisKeyOf(std::span<const RedisArgument> command) {
  if (command.size() < 2) return std::nullopt;
  const std::string name = absl::AsciiStrToUpper(ToAbsl(command[0].text));
  for (const char* keyless : {"PING", "ECHO", "INFO", "CONFIG", "CLUSTER", "CLIENT", "PUBLISH",
                              "SCRIPT", "COMMAND", "DEBUG", "ACL"}) {
    if (name == keyless) return std::nullopt;
  }
  if (name != "EVAL" && name != "EVALSHA") return command[1].text;
  if (command.size() < 4 || command[2].text == "0") return std::nullopt;
  return command[3].text;
}

absl::StatusOr<RedisTopology> ParseRedisTopology(const RedisReply& reply,
                                                 const RedisAddress& asked) {
  if (reply.kind != RedisReply::Kind::kArray) return NoTopology("is no list");
  RedisTopology topology;
  topology.owner_of_slot.assign(kRedisSlots, -1);
  std::map<std::string, int> index;
  std::vector<RedisAddress> replicas;
  for (const RedisReply& entry : reply.elements) {
    if (entry.kind != RedisReply::Kind::kArray || entry.elements.size() < 3) {
      return NoTopology("has an entry that is none");
    }
    const int64_t first = entry.elements[0].integer;
    const int64_t last = entry.elements[1].integer;
    if (first < 0 || first > last || last >= kRedisSlots) {
      return NoTopology("has slots that do not exist");
    }
    OCTOGATE_ASSIGN_OR_RETURN(const std::optional<RedisAddress> master,
                              ParseNode(entry.elements[2], asked));
    if (master) {
      const auto [known, is_new] =
          index.emplace(master->ToString(), static_cast<int>(topology.nodes.size()));
      if (is_new) topology.nodes.push_back(*master);
      std::fill(topology.owner_of_slot.begin() + first, topology.owner_of_slot.begin() + last + 1,
                known->second);
    }
    for (size_t i = 3; i < entry.elements.size(); ++i) {
      OCTOGATE_ASSIGN_OR_RETURN(std::optional<RedisAddress> replica,
                                ParseNode(entry.elements[i], asked));
      if (replica) replicas.push_back(*std::move(replica));
    }
    if (topology.nodes.size() > RedisTopology::kMaxNodes) return NoTopology("names too many nodes");
  }
  topology.masters = topology.nodes.size();
  if (topology.masters == 0) return NoTopology("names no node");
  for (RedisAddress& replica : replicas) {
    if (topology.nodes.size() == RedisTopology::kMaxNodes) break;
    if (index.emplace(replica.ToString(), 0).second) topology.nodes.push_back(std::move(replica));
  }
  return topology;
}

std::optional<RedisRedirect> ParseRedisRedirect(std::string_view words, const RedisAddress& asked) {
  RedisRedirect redirect;
  absl::string_view rest = ToAbsl(words);
  if (absl::ConsumePrefix(&rest, "ASK ")) {
    redirect.ask = true;
  } else if (!absl::ConsumePrefix(&rest, "MOVED ")) {
    return std::nullopt;
  }
  const size_t space = rest.find(' ');
  const size_t colon = rest.rfind(':');  // an IPv6 address holds others
  if (space == absl::string_view::npos || colon == absl::string_view::npos || colon < space + 1 ||
      !absl::SimpleAtoi(rest.substr(0, space), &redirect.slot) || redirect.slot < 0 ||
      redirect.slot >= kRedisSlots ||
      !absl::SimpleAtoi(rest.substr(colon + 1), &redirect.address.port) ||
      !IsPort(redirect.address.port)) {
    return std::nullopt;
  }
  redirect.address.host = std::string(rest.substr(space + 1, colon - space - 1));
  if (redirect.address.host.empty()) redirect.address.host = asked.host;
  return redirect;
}

}  // namespace octogate
