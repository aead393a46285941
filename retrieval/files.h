// Files that are mapped whole, and replaced whole.
#ifndef OCTOGATE_RETRIEVAL_FILES_H_
#define OCTOGATE_RETRIEVAL_FILES_H_

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace octogate::retrieval {

// "cannot `what` `path`" and why, by errno.
absl::Status SystemError(std::string_view what, const std::string& path);

// Closes a file; below 0 it is none.
class Descriptor {
 public:
  explicit Descriptor(int file) : file_(file) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return file_; }

 private:
  const int file_;
};

// False, with errno, where not all was written.
bool WriteAll(int file, std::span<const std::byte> bytes);

// Writes the parts, one behind the other, to a new file with the rights of `mode`, which takes the
// place of the one at `path` once it is whole and on disk: readers see the old one or the new one.
absl::Status ReplaceFile(const std::string& path, mode_t mode,
                         std::span<const std::span<const std::byte>> parts);

// A file in memory, as long as this lives. It may be replaced meanwhile but never changed: reads
// beyond the end of one that was cut raise SIGBUS, as with every mapped file.
class MappedFile {
 public:
  // Errors of the file system; INVALID_ARGUMENT for what is no regular file. An empty one has no
  // bytes.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::span<const std::byte> bytes() const { return bytes_; }
  // That reads jump about, so that nothing is read ahead.
  void ExpectRandomReads() const;

 private:
  std::span<std::byte> bytes_;
};

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_FILES_H_
