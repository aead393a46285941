#include "common/redis/resp.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace octogate {
namespace {

// At least as long as the longest line.
constexpr size_t kBufferBytes = size_t{128} << 10;
constexpr size_t kMaxElements = size_t{1} << 20;
constexpr size_t kMaxDepth = 8;
// Of a string, had before its bytes are there: a server that promises more has to begin with it.
constexpr size_t kFirstBytes = size_t{4} << 20;
constexpr std::string_view kEnd = "\r\n";

absl::Status Wrong(std::string_view what) {
  return absl::InternalError(absl::StrCat("its answer ", ToAbsl(what)));
}

}  // namespace

void AppendRespCommand(std::span<const RedisArgument> arguments, std::string* out) {
  AppendRespHead(arguments.size(), out);
  for (const RedisArgument& argument : arguments) AppendRespArgument(argument, out);
}

void AppendRespHead(size_t count, std::string* out) { absl::StrAppend(out, "*", count, "\r\n"); }

void AppendRespArgument(const RedisArgument& argument, std::string* out) {
  AppendRespBegin(argument, out);
  out->append(argument.text);
  AppendRespEnd(argument, out);
}

void AppendRespBegin(const RedisArgument& argument, std::string* out) {
  absl::StrAppend(out, "$", argument.size(), "\r\n");
}

void AppendRespEnd(const RedisArgument& argument, std::string* out) {
  if (argument.seal != nullptr) out->append(argument.seal->Trailer());
  out->append(kEnd);
}

RespReader::RespReader(size_t max_bytes) : max_bytes_(max_bytes), buffer_(kBufferBytes) {}

std::array<iovec, 2> RespReader::Space() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const iovec rest{.iov_base = buffer_.data() + end_, .iov_len = buffer_.size() - end_};
  if (!string_ || string_->got == string_->size) return {rest, {}};
  // What has come of the string is not in the buffer.
  if (string_->got == string_->text.size()) {
    string_->text.resize(std::min(string_->size, 4 * string_->text.size()));
  }
  return {iovec{.iov_base = string_->text.data() + string_->got,
                .iov_len = string_->text.size() - string_->got},
          string_->text.size() == string_->size ? rest : iovec{}};
}

absl::Status RespReader::Came(size_t size) {
  bytes_ += size;
  if (string_) {
    const size_t part = std::min(size, string_->text.size() - string_->got);
    string_->got += part;
    size -= part;
  }
  end_ += size;
  OCTOGATE_RETURN_IF_ERROR(Parse());
  return bytes_ > max_bytes_ ? Wrong("is too long") : absl::OkStatus();
}

std::optional<RedisReply> RespReader::Next() {
  if (whole_.empty()) return std::nullopt;
  RedisReply reply = std::move(whole_.front());
  whole_.pop_front();
  return reply;
}

absl::Status RespReader::Parse() {
  for (;;) {
    if (string_) {
      // Of a string that has begun in the buffer.
      const size_t part =
          std::min(end_ - begin_, std::min(string_->size, string_->text.size()) - string_->got);
      std::memcpy(string_->text.data() + string_->got, buffer_.data() + begin_, part);
      string_->got += part;
      begin_ += part;
      if (string_->got < string_->size || Unread().size() < kEnd.size()) return absl::OkStatus();
      if (!Unread().starts_with(kEnd)) return Wrong("has a string of another length");
      begin_ += kEnd.size();
      RedisReply reply{.kind = RedisReply::Kind::kText, .text = std::move(string_->text)};
      string_.reset();
      Finish(std::move(reply));
      continue;
    }
    const std::string_view unread = Unread();
    const size_t end = unread.find('\n');
    if (end == std::string_view::npos) {
      return unread.size() == buffer_.size() ? Wrong("has too long a line") : absl::OkStatus();
    }
    if (end < 2 || unread[end - 1] != '\r') return Wrong("is not RESP");
    begin_ += end + 1;
    OCTOGATE_RETURN_IF_ERROR(ParseLine(unread.substr(0, end - 1)));
  }
}

absl::Status RespReader::ParseLine(std::string_view line) {
  const char type = line.front();
  const std::string_view rest = line.substr(1);
  RedisReply reply;
  if (type == '+' || type == '-') {
    reply.kind = type == '+' ? RedisReply::Kind::kText : RedisReply::Kind::kError;
    reply.text = rest;
    Finish(std::move(reply));
    return absl::OkStatus();
  }
  int64_t number = 0;
  if ((type != ':' && type != '$' && type != '*') || !absl::SimpleAtoi(ToAbsl(rest), &number)) {
    return Wrong("is not RESP");
  }
  if (type == ':') {
    reply.kind = RedisReply::Kind::kInteger;
    reply.integer = number;
    Finish(std::move(reply));
    return absl::OkStatus();
  }
  if (number < -1) return Wrong("has a negative length");
  if (number == -1) {
    Finish(std::move(reply));
    return absl::OkStatus();
  }
  const auto count = static_cast<size_t>(number);
  if (type == '$') {
    if (count > max_bytes_) return Wrong("is too long");
    string_.emplace(
        OpenString{.text = std::string(std::min(count, kFirstBytes), '\0'), .size = count});
    return absl::OkStatus();
  }
  if (count > kMaxElements - elements_) return Wrong("has too many elements");
  elements_ += count;
  reply.kind = RedisReply::Kind::kArray;
  if (count == 0) {
    Finish(std::move(reply));
    return absl::OkStatus();
  }
  if (arrays_.size() == kMaxDepth) return Wrong("has too many levels");
  arrays_.push_back({.reply = std::move(reply), .missing = count});
  return absl::OkStatus();
}

void RespReader::Finish(RedisReply reply) {
  while (!arrays_.empty()) {
    OpenArray& array = arrays_.back();
    array.reply.elements.push_back(std::move(reply));
    if (--array.missing > 0) return;
    reply = std::move(array.reply);
    arrays_.pop_back();
  }
  whole_.push_back(std::move(reply));
  bytes_ = Unread().size();
  elements_ = 0;
}

}  // namespace octogate
