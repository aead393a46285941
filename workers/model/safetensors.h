// Memory-mapped reading of safetensors files, one or many.
//
// Format (https://github.com/huggingface/safetensors#format): an unsigned
// 64-bit little-endian length N, N bytes of JSON that map each tensor's name to
// {"dtype", "shape", "data_offsets": [begin, end]}, then the data. Offsets are
// relative to the end of the JSON. Everything is checked before a view is
// handed out: sizes against the file, shapes against offsets, offsets against
// one another (no overlap and no hole), names for uniqueness.
//
// Thread safety: const after Open; any number of threads may read.
#ifndef OCTOGATE_WORKERS_MODEL_SAFETENSORS_H_
#define OCTOGATE_WORKERS_MODEL_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/dtype.h"

namespace octogate::workers {

inline constexpr size_t kMaxSafetensorsHeaderBytes = 100'000'000;  // the format's own limit
inline constexpr size_t kMaxSafetensorsTensors = 1 << 18;          // per file
inline constexpr size_t kMaxSafetensorsRank = 8;
inline constexpr size_t kMaxSafetensorsShards = 512;

// Row-major elements inside the mapped file. The data is as aligned as the file
// makes it, which may be not at all: read elements with memcpy or unaligned
// loads. Valid as long as the file object that it came from.
struct TensorView {
  std::string_view name;
  DType dtype = DType::kF32;
  std::span<const int64_t> shape;  // empty for a scalar
  std::span<const std::byte> data;
};

// The layout of one file, separate from where its bytes come from.
struct SafetensorsHeader {
  struct Entry {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
    uint64_t begin = 0;  // bytes from the start of the data
    uint64_t end = 0;
  };
  std::vector<Entry> entries;  // by ascending offset
  std::map<std::string, std::string> metadata;
  uint64_t data_offset = 0;  // bytes from the start of the file
};

// Parses and validates the header of a file whose first bytes are `prefix` (the
// length and the whole JSON at least) and whose size is `file_size`.
// INVALID_ARGUMENT, naming `source_name` and the tensor or byte offset,
// for every violation of the format; UNIMPLEMENTED for a dtype unknown to
// dtype.h; RESOURCE_EXHAUSTED above one of the limits.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::span<const std::byte> prefix,
                                                         uint64_t file_size,
                                                         std::string_view source_name);

// A whole file mapped read-only and private.
//
// The size is taken once, by fstat at Open, and everything is checked against
// it. A file that someone truncates afterwards makes reads beyond its new end
// raise SIGBUS, as with every memory-mapped file; deploy checkpoints by
// renaming complete folders into place, never by rewriting files in use. An
// engine that must survive such a rewrite copies the weights after CheckSize().
class SafetensorsFile {
 public:
  static absl::StatusOr<SafetensorsFile> Open(const std::filesystem::path& path);

  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&& other) noexcept;
  ~SafetensorsFile();

  const std::filesystem::path& path() const { return path_; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  size_t num_tensors() const { return header_.entries.size(); }
  // By ascending file offset.
  TensorView tensor(size_t index) const;
  // NOT_FOUND names the file.
  absl::StatusOr<TensorView> Find(std::string_view name) const;

  // OK while the file still has the size it had at Open, else DATA_LOSS.
  absl::Status CheckSize() const;

 private:
  SafetensorsFile() = default;

  std::filesystem::path path_;
  int fd_ = -1;
  const std::byte* mapping_ = nullptr;
  size_t mapping_size_ = 0;
  SafetensorsHeader header_;
  absl::flat_hash_map<std::string_view, size_t> index_;  // views into header_.entries
};

// The tensors of a checkpoint folder: `model.safetensors`, or the shards that
// `model.safetensors.index.json` lists (its weight_map must agree with what
// the shards hold, and may name plain files inside the folder only).
class SafetensorsCheckpoint {
 public:
  // NOT_FOUND when the folder has neither file; says so when it holds another
  // format (pytorch_model.bin, *.gguf) and how to convert.
  static absl::StatusOr<SafetensorsCheckpoint> Open(const std::filesystem::path& directory);

  // Sorted by name.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // nullptr when there is none.
  const TensorView* Find(std::string_view name) const;
  // Sum over all tensors.
  uint64_t total_bytes() const { return total_bytes_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }

 private:
  std::vector<SafetensorsFile> files_;
  std::vector<TensorView> tensors_;
  uint64_t total_bytes_ = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_SAFETENSORS_H_
