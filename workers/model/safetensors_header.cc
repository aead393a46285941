#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "workers/model/json_file.h"
#include "workers/model/safetensors.h"

namespace octogate::workers {
namespace {

// Receives the header's JSON as a stream of events, so that a header of the
// largest size costs no document tree and wrong structure ends it at once.
//
// Methods return false to stop, having set status_. The level is the number of
// open objects: 1 holds tensor names, 2 the fields of one tensor.
class HeaderHandler : public nlohmann::json::json_sax_t {
 public:
  HeaderHandler(std::string_view source_name, SafetensorsHeader& header)
      : source_name_(source_name), header_(header) {}

  const absl::Status& status() const { return status_; }

  bool start_object(std::size_t) override {
    if (level_ >= 2 || field_ != Field::kNone) return Unexpected("an object");
    ++level_;
    return true;
  }

  bool end_object() override {
    --level_;
    if (level_ == 1 && !in_metadata_) return FinishEntry();
    in_metadata_ = false;
    return true;
  }

  bool key(string_t& key) override {
    if (level_ == 1) return StartEntry(key);
    if (in_metadata_) {
      metadata_key_ = key;
      field_ = Field::kMetadata;
      return true;
    }
    if (key == "dtype") {
      field_ = Field::kDtype;
    } else if (key == "shape") {
      field_ = Field::kShape;
    } else if (key == "data_offsets") {
      field_ = Field::kOffsets;
    } else {
      return Fail(absl::StatusCode::kInvalidArgument,
                  absl::StrCat("unknown key ", QuotedForError(key),
                               "; a tensor has dtype, shape and data_offsets"));
    }
    bool& seen = seen_[static_cast<size_t>(field_)];
    if (seen) {
      return Fail(absl::StatusCode::kInvalidArgument,
                  absl::StrCat("key ", QuotedForError(key), " repeats"));
    }
    seen = true;
    return true;
  }

  bool string(string_t& value) override {
    if (level_ == 2 && field_ == Field::kMetadata) {
      field_ = Field::kNone;
      if (!header_.metadata.emplace(metadata_key_, value).second) {
        return Fail(absl::StatusCode::kInvalidArgument,
                    absl::StrCat("key ", QuotedForError(metadata_key_), " repeats"));
      }
      return true;
    }
    if (level_ != 2 || field_ != Field::kDtype) return Unexpected("a string");
    field_ = Field::kNone;
    const std::optional<DType> dtype = DTypeFromName(value);
    if (!dtype) {
      return Fail(absl::StatusCode::kUnimplemented,
                  absl::StrCat("dtype ", QuotedForError(value), " is not supported"));
    }
    entry_.dtype = *dtype;
    return true;
  }

  bool start_array(std::size_t) override {
    if (in_array_ || (field_ != Field::kShape && field_ != Field::kOffsets)) {
      return Unexpected("a list");
    }
    in_array_ = true;
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    const bool complete = field_ == Field::kShape || num_offsets_ == 2;
    field_ = Field::kNone;
    return complete || Fail(absl::StatusCode::kInvalidArgument,
                            "data_offsets must be two numbers, begin and end");
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (!in_array_) return Unexpected("a number");
    if (field_ == Field::kOffsets) {
      if (num_offsets_ == 2) {
        return Fail(absl::StatusCode::kInvalidArgument,
                    "data_offsets must be two numbers, begin and end");
      }
      (num_offsets_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    if (entry_.shape.size() == kMaxSafetensorsRank) {
      return Fail(absl::StatusCode::kResourceExhausted,
                  absl::StrCat("more than ", kMaxSafetensorsRank, " dimensions"));
    }
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail(absl::StatusCode::kInvalidArgument,
                  absl::StrCat("dimension ", value, " is too large"));
    }
    entry_.shape.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool number_integer(number_integer_t) override { return Unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return Unexpected("a number that is no integer below 2^64");
  }
  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("true or false"); }
  bool binary(binary_t&) override { return Unexpected("binary data"); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    if (status_.ok()) {
      // +8: the length field precedes the JSON; positions count from 1.
      status_ = absl::InvalidArgumentError(
          absl::StrCat(source_name_, ": header is not valid JSON at byte ",
                       position == 0 ? 8 : position + 7, ": ", error.what()));
    }
    return false;
  }

 private:
  enum class Field { kNone, kDtype, kShape, kOffsets, kMetadata };

  bool Fail(absl::StatusCode code, const std::string& message) {
    status_ = absl::Status(
        code,
        absl::StrCat(source_name_, ": ",
                     entry_.name.empty() && !in_metadata_
                         ? "header"
                         : (in_metadata_ ? std::string("__metadata__")
                                         : absl::StrCat("tensor ", QuotedForError(entry_.name))),
                     ": ", message));
    return false;
  }

  bool Unexpected(const char* what) {
    return Fail(absl::StatusCode::kInvalidArgument,
                absl::StrCat("unexpected ", what,
                             "; the header maps names to {\"dtype\": string, \"shape\": [sizes], "
                             "\"data_offsets\": [begin, end]} and __metadata__ to strings"));
  }

  bool StartEntry(const std::string& name) {
    entry_ = {};
    entry_.name = name;
    num_offsets_ = 0;
    std::fill(std::begin(seen_), std::end(seen_), false);
    field_ = Field::kNone;
    in_metadata_ = name == "__metadata__";
    if (!names_.insert(name).second) {
      return Fail(absl::StatusCode::kInvalidArgument, "the name repeats");
    }
    if (header_.entries.size() >= kMaxSafetensorsTensors) {
      return Fail(absl::StatusCode::kResourceExhausted,
                  absl::StrCat("more than ", kMaxSafetensorsTensors, " tensors"));
    }
    return true;
  }

  bool FinishEntry() {
    for (const Field field : {Field::kDtype, Field::kShape, Field::kOffsets}) {
      if (!seen_[static_cast<size_t>(field)]) {
        return Fail(absl::StatusCode::kInvalidArgument,
                    "dtype, shape and data_offsets are all required");
      }
    }
    header_.entries.push_back(std::move(entry_));
    entry_ = {};
    return true;
  }

  const std::string source_name_;
  SafetensorsHeader& header_;
  absl::Status status_;
  int level_ = 0;
  bool in_metadata_ = false;
  bool in_array_ = false;
  Field field_ = Field::kNone;
  bool seen_[5] = {};
  int num_offsets_ = 0;
  std::string metadata_key_;
  SafetensorsHeader::Entry entry_;
  absl::flat_hash_set<std::string> names_;
};

// Bytes that a tensor of this shape takes, or nothing when they exceed 64 bits.
std::optional<uint64_t> ByteSize(const SafetensorsHeader::Entry& entry) {
  uint64_t bytes = DTypeSize(entry.dtype);
  for (const int64_t dimension : entry.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dimension), &bytes)) {
      return std::nullopt;
    }
  }
  return bytes;
}

absl::Status CheckLayout(const SafetensorsHeader& header, uint64_t data_size,
                         const std::string& source_name) {
  uint64_t next = 0;
  for (const SafetensorsHeader::Entry& entry : header.entries) {
    const std::string where = absl::StrCat(source_name, ": tensor ", QuotedForError(entry.name),
                                           ": data_offsets [", entry.begin, ", ", entry.end, "] ");
    if (entry.begin > entry.end) {
      return absl::InvalidArgumentError(absl::StrCat(where, "end before they begin"));
    }
    if (entry.end > data_size) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "reach past the ", data_size, " bytes of data that the file holds"));
    }
    const std::optional<uint64_t> expected = ByteSize(entry);
    if (!expected || *expected != entry.end - entry.begin) {
      std::string shape;
      for (const int64_t size : entry.shape) {
        absl::StrAppend(&shape, shape.empty() ? "" : ", ", size);
      }
      return absl::InvalidArgumentError(
          absl::StrCat(where, "hold ", entry.end - entry.begin, " bytes, but ",
                       std::string(DTypeName(entry.dtype)), " of shape [", shape, "] needs ",
                       expected ? absl::StrCat(*expected) : "more than 2^64"));
    }
    if (entry.begin != next) {
      return absl::InvalidArgumentError(
          absl::StrCat(where,
                       entry.begin < next ? "overlap the tensor before, which ends at "
                                          : "leave a hole after byte ",
                       next));
    }
    next = entry.end;
  }
  if (next != data_size) {
    return absl::InvalidArgumentError(absl::StrCat(source_name, ": tensors end at byte ", next,
                                                   " of the data, but the file holds ", data_size,
                                                   " bytes of data"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> prefix,
                                                         uint64_t file_size,
                                                         std::string_view source_name) {
  const std::string source(source_name);
  constexpr size_t kLengthBytes = 8;
  if (prefix.size() < kLengthBytes || file_size < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        source, ": has ", std::min<uint64_t>(file_size, prefix.size()),
        " bytes; a safetensors file begins with 8 bytes that give its header's length"));
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<uint64_t>(prefix[i]) << (8 * i);
  }
  if (length > kMaxSafetensorsHeaderBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(source, ": claims a header of ", length,
                                                     " bytes; at most ", kMaxSafetensorsHeaderBytes,
                                                     " are allowed"));
  }
  if (length > file_size - kLengthBytes || length > prefix.size() - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": truncated: claims a header of ",
                                                   length, " bytes, but the file has ", file_size,
                                                   " in all"));
  }
  const char* begin = reinterpret_cast<const char*>(prefix.data()) + kLengthBytes;
  if (length == 0 || *begin != '{') {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": the header at byte 8 must begin with '{'"));
  }

  SafetensorsHeader header;
  header.data_offset = kLengthBytes + length;
  HeaderHandler handler(source, header);
  bool parsed = false;
  try {
    parsed = nlohmann::json::sax_parse(begin, begin + length, &handler);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": header: ", error.what()));
  }
  if (!handler.status().ok()) return handler.status();
  if (!parsed)
    return absl::InvalidArgumentError(absl::StrCat(source, ": header is not valid JSON"));

  // Zero-sized tensors share their offset with the tensor that follows them.
  std::sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  if (absl::Status status = CheckLayout(header, file_size - header.data_offset, source);
      !status.ok()) {
    return status;
  }
  return header;
}

}  // namespace octogate::workers
