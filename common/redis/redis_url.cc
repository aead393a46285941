#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/redis/redis_client.h"
#include "common/strings.h"

namespace octogate {

absl::StatusOr<RedisOptions> ParseRedisUrl(std::string_view url) {
  const auto refuse = [](const char* why) {
    return absl::InvalidArgumentError(
        absl::StrCat("the address of Redis ", why,
                     "; it is redis://[USER@]HOST[:PORT][/DATABASE] or unix:PATH"));
  };
  RedisOptions options;
  absl::string_view rest = ToAbsl(url);
  if (absl::ConsumePrefix(&rest, "unix:")) {
    if (rest.empty()) return refuse("names no socket");
    options.unix_socket = std::string(rest);
    return options;
  }
  if (!absl::ConsumePrefix(&rest, "redis://")) return refuse("has another beginning");
  if (const size_t at = rest.rfind('@'); at != absl::string_view::npos) {
    const absl::string_view user = rest.substr(0, at);
    if (user.find(':') != absl::string_view::npos) {
      return refuse("holds a password, which belongs into OCTOGATE_REDIS_PASSWORD");
    }
    options.username = std::string(user);
    rest.remove_prefix(at + 1);
  }
  if (const size_t slash = rest.find('/'); slash != absl::string_view::npos) {
    const absl::string_view database = rest.substr(slash + 1);
    if (!database.empty() && (!absl::SimpleAtoi(database, &options.database) ||
                              options.database < 0 || options.database > 1'000'000)) {
      return refuse("has a database that is no number");
    }
    rest = rest.substr(0, slash);
  }
  absl::string_view host = rest;
  absl::string_view port;
  if (absl::ConsumePrefix(&host, "[")) {  // IPv6
    const size_t end = host.find(']');
    if (end == absl::string_view::npos) return refuse("lacks a ]");
    port = host.substr(end + 1);
    host = host.substr(0, end);
    if (!port.empty() && !absl::ConsumePrefix(&port, ":")) return refuse("has no port after ]");
  } else if (const size_t colon = host.find(':'); colon != absl::string_view::npos) {
    port = host.substr(colon + 1);
    host = host.substr(0, colon);
  }
  if (host.empty()) return refuse("names no host");
  if (!port.empty() &&
      (!absl::SimpleAtoi(port, &options.port) || options.port < 1 || options.port > 65535)) {
    return refuse("has a port that is no number from 1 to 65535");
  }
  options.host = std::string(host);
  return options;
}

}  // namespace octogate
