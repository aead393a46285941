// RESP2, what Redis speaks: commands as they go to a server, and a reader of its answers.
// https://redis.io/docs/latest/develop/reference/protocol-spec/
//
// The reader takes the bytes of a large string where they will stay: they are copied once, by the
// kernel. (hiredis copies them three times more.)
#ifndef OCTOGATE_COMMON_REDIS_RESP_H_
#define OCTOGATE_COMMON_REDIS_RESP_H_

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "common/redis/redis_client.h"

namespace octogate {

// Appends a command with binary-safe arguments: an array of bulk strings.
void AppendRespCommand(std::span<const RedisArgument> arguments, std::string* out);

// Its parts: the head of `count` arguments, then each as a whole, or the length before its bytes
// and, where it has a seal, the trailer, and the end behind them.
void AppendRespHead(size_t count, std::string* out);
void AppendRespArgument(const RedisArgument& argument, std::string* out);
void AppendRespBegin(const RedisArgument& argument, std::string* out);
void AppendRespEnd(const RedisArgument& argument, std::string* out);

// Answers from a server that is not trusted. Not thread-safe.
class RespReader {
 public:
  // An answer has at most `max_bytes`, and few enough elements and levels for anything that is
  // asked here.
  explicit RespReader(size_t max_bytes);

  // Where the next bytes are to be put, in this order; the first is never empty. Valid until Came.
  std::array<iovec, 2> Space();

  // Takes the `size` bytes that have been put there. INTERNAL, with what is wrong, where they are
  // no answers within the limits: nothing can be read any more then.
  absl::Status Came(size_t size);

  // The next answer that is there as a whole.
  std::optional<RedisReply> Next();

 private:
  struct OpenArray {
    RedisReply reply;
    size_t missing;
  };
  struct OpenString {
    std::string text;
    size_t size;  // of which `text` may have the space only
    size_t got = 0;
  };

  std::string_view Unread() const { return {buffer_.data() + begin_, end_ - begin_}; }
  absl::Status Parse();
  absl::Status ParseLine(std::string_view line);
  void Finish(RedisReply reply);

  const size_t max_bytes_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  // Of the answer under way.
  size_t bytes_ = 0;
  size_t elements_ = 0;
  std::vector<OpenArray> arrays_;
  std::optional<OpenString> string_;
  std::deque<RedisReply> whole_;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_RESP_H_
