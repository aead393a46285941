#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/redis/redis_client.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate {
namespace {

absl::Status Refuse(const char* why) {
  return absl::InvalidArgumentError(
      absl::StrCat("the address of Redis ", why,
                   "; it is redis://[USER@]HOST[:PORT][/DATABASE], "
                   "redis+cluster://[USER@]HOST[:PORT][,HOST[:PORT]]... or unix:PATH"));
}

// "HOST[:PORT]"
absl::StatusOr<RedisAddress> ParseAddress(absl::string_view host) {
  RedisAddress address;
  absl::string_view port;
  if (absl::ConsumePrefix(&host, "[")) {  // IPv6
    const size_t end = host.find(']');
    if (end == absl::string_view::npos) return Refuse("lacks a ]");
    port = host.substr(end + 1);
    host = host.substr(0, end);
    if (!port.empty() && !absl::ConsumePrefix(&port, ":")) return Refuse("has no port after ]");
  } else if (const size_t colon = host.find(':'); colon != absl::string_view::npos) {
    port = host.substr(colon + 1);
    host = host.substr(0, colon);
  }
  if (host.empty()) return Refuse("names no host");
  if (!port.empty() &&
      (!absl::SimpleAtoi(port, &address.port) || address.port < 1 || address.port > 65535)) {
    return Refuse("has a port that is no number from 1 to 65535");
  }
  address.host = std::string(host);
  return address;
}

}  // namespace

std::string RedisAddress::ToString() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return is_v6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::StatusOr<RedisOptions> ParseRedisUrl(std::string_view url) {
  RedisOptions options;
  absl::string_view rest = ToAbsl(url);
  if (absl::ConsumePrefix(&rest, "unix:")) {
    if (rest.empty()) return Refuse("names no socket");
    options.unix_socket = std::string(rest);
    return options;
  }
  if (absl::StartsWith(rest, "rediss")) {
    return absl::InvalidArgumentError(
        "rediss:// is TLS, which this client does not speak: run a proxy that does (stunnel, or a "
        "sidecar such as Envoy) on this machine and give its port as redis://127.0.0.1:PORT; "
        "deploy/redis.conf shows how");
  }
  options.cluster = absl::ConsumePrefix(&rest, "redis+cluster://");
  if (!options.cluster && !absl::ConsumePrefix(&rest, "redis://")) {
    return Refuse("has another beginning");
  }
  if (const size_t at = rest.rfind('@'); at != absl::string_view::npos) {
    const absl::string_view user = rest.substr(0, at);
    if (user.find(':') != absl::string_view::npos) {
      return Refuse("holds a password, which belongs into OCTOGATE_REDIS_PASSWORD");
    }
    options.username = std::string(user);
    rest.remove_prefix(at + 1);
  }
  if (const size_t slash = rest.find('/'); slash != absl::string_view::npos) {
    const absl::string_view database = rest.substr(slash + 1);
    if (!database.empty() && (!absl::SimpleAtoi(database, &options.database) ||
                              options.database < 0 || options.database > 1'000'000)) {
      return Refuse("has a database that is no number");
    }
    if (options.cluster && options.database != 0) return Refuse("has a database of a cluster");
    rest = rest.substr(0, slash);
  }
  if (!options.cluster && rest.find(',') != absl::string_view::npos) {
    return Refuse("names several hosts, which only a cluster has");
  }
  std::vector<absl::string_view> hosts{rest};
  if (options.cluster) hosts = absl::StrSplit(rest, ',');
  for (const absl::string_view host : hosts) {
    OCTOGATE_ASSIGN_OR_RETURN(RedisAddress address, ParseAddress(host));
    options.more_nodes.push_back(std::move(address));
  }
  options.host = options.more_nodes.front().host;
  options.port = options.more_nodes.front().port;
  options.more_nodes.erase(options.more_nodes.begin());
  return options;
}

}  // namespace octogate
