#include "retrieval/files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::retrieval {

absl::Status SystemError(std::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", ToAbsl(what), " ", Quoted(path, 300)));
}

Descriptor::~Descriptor() {
  if (file_ >= 0) close(file_);
}

bool WriteAll(int file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), std::min(bytes.size(), size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

absl::Status ReplaceFile(const std::string& path, mode_t mode,
                         std::span<const std::span<const std::byte>> parts) {
  std::string beside = absl::StrCat(path, ".XXXXXX");
  const Descriptor file(mkstemp(beside.data()));
  if (file.get() < 0) return SystemError("write beside", path);
  const auto fail = [&](std::string_view what) {
    absl::Status status = SystemError(what, path);
    unlink(beside.c_str());
    return status;
  };
  for (const std::span<const std::byte> part : parts) {
    if (!WriteAll(file.get(), part)) return fail("write");
  }
  if (fchmod(file.get(), mode) != 0 || fsync(file.get()) != 0) return fail("write");
  if (rename(beside.c_str(), path.c_str()) != 0) return fail("replace");
  return absl::OkStatus();
}

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // Without waiting where it is a pipe.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return SystemError("open", path);
  struct stat status;
  if (fstat(file.get(), &status) != 0) return SystemError("look at", path);
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(path, 300), " is not a file"));
  }
  MappedFile mapped;
  const auto size = static_cast<size_t>(status.st_size);
  if (size == 0) return mapped;
  void* const mapping = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (mapping == MAP_FAILED) return SystemError("map", path);
  mapped.bytes_ = {static_cast<std::byte*>(mapping), size};
  return mapped;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

void MappedFile::ExpectRandomReads() const {
  if (!bytes_.empty()) madvise(bytes_.data(), bytes_.size(), MADV_RANDOM);
}

}  // namespace octogate::retrieval
