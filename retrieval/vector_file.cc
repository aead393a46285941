#include "retrieval/vector_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/strings.h"
#include "retrieval/files.h"

namespace octogate::retrieval {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'O', 'G', 'V', 'E', 'C', 'I', 'D', 'X'};
constexpr uint32_t kVersion = 1;
constexpr size_t kPage = 4096;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t dimension;
  uint64_t rows;
  uint64_t removed;
  uint64_t neighbors;
  int32_t links;
  int32_t entry;
  uint64_t file_bytes;
  uint64_t checksum;  // Of everything before it, then of all parts.
};
static_assert(sizeof(Header) == 64);

// Each step is a bijection, so that a change of one word is always noticed.
class Checksum {
 public:
  void Add(const void* data, size_t bytes) {
    const auto* at = static_cast<const char*>(data);
    for (size_t i = 0; i + sizeof(uint32_t) <= bytes; i += sizeof(uint32_t)) {
      uint32_t word;
      std::memcpy(&word, at + i, sizeof(word));
      value_ = (value_ ^ word) * 0x9E3779B97F4A7C15;
      value_ ^= value_ >> 32;
    }
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xCBF29CE484222325;
};

// Where the vectors begin.
size_t VectorsAt(const Header& header) {
  const size_t end =
      sizeof(Header) + header.rows * sizeof(int64_t) + header.removed * sizeof(uint32_t) +
      (header.links > 0 ? header.rows * sizeof(int32_t) : 0) + header.neighbors * sizeof(int32_t);
  return (end + kPage - 1) / kPage * kPage;
}

}  // namespace

FileVectors::~FileVectors() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

absl::Status WriteVectorFile(const std::string& path, const VectorFileParts& parts) {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.dimension = static_cast<uint32_t>(parts.dimension);
  header.rows = parts.ids.size();
  header.removed = parts.removed.size();
  header.neighbors = parts.neighbors.size();
  header.links = parts.links;
  header.entry = parts.entry;
  const size_t vectors_at = VectorsAt(header);
  header.file_bytes = vectors_at + header.rows * parts.dimension * sizeof(float);
  std::vector<std::span<const std::byte>> file = {
      std::as_bytes(std::span(&header, 1)), std::as_bytes(parts.ids), std::as_bytes(parts.removed),
      std::as_bytes(parts.levels), std::as_bytes(parts.neighbors)};
  size_t head_bytes = 0;
  for (const auto part : file) head_bytes += part.size();
  const std::vector<std::byte> zeros(vectors_at - head_bytes);
  file.emplace_back(zeros);
  for (const std::span<const float> rows : parts.vectors) file.push_back(std::as_bytes(rows));
  Checksum checksum;
  checksum.Add(&header, offsetof(Header, checksum));
  for (const auto part : std::span(file).subspan(1)) checksum.Add(part.data(), part.size());
  header.checksum = checksum.value();
  return ReplaceFile(path, 0644, file);
}

// Reads one file.
class VectorFileReader {
 public:
  VectorFileReader(const std::string& path, int fd) : path_(path), fd_(fd) {}

  absl::StatusOr<VectorFile> Read(bool map, size_t max_dimension, size_t max_vectors) {
    Header header;
    OCTOGATE_RETURN_IF_ERROR(ReadHeader(max_dimension, max_vectors, &header));
    Checksum checksum;
    checksum.Add(&header, offsetof(Header, checksum));
    VectorFile file;
    file.dimension = header.dimension;
    file.graph.links = header.links;
    file.graph.entry = header.entry;
    OCTOGATE_RETURN_IF_ERROR(ReadPart(header.rows, &file.ids, &checksum));
    OCTOGATE_RETURN_IF_ERROR(ReadPart(header.removed, &file.removed, &checksum));
    OCTOGATE_RETURN_IF_ERROR(
        ReadPart(header.links > 0 ? header.rows : 0, &file.graph.levels, &checksum));
    OCTOGATE_RETURN_IF_ERROR(ReadPart(header.neighbors, &file.graph.neighbors, &checksum));

    const size_t vectors_at = VectorsAt(header);
    std::vector<char> zeros;
    OCTOGATE_RETURN_IF_ERROR(ReadPart(vectors_at - at_, &zeros, &checksum));
    const size_t values = header.rows * header.dimension;
    file.vectors = std::make_unique<FileVectors>();
    FileVectors& vectors = *file.vectors;
    vectors.bytes_ = values * sizeof(float);
    if (map && values > 0) {
      void* const mapping =
          mmap(nullptr, vectors.bytes_, PROT_READ, MAP_SHARED, fd_, static_cast<off_t>(vectors_at));
      if (mapping == MAP_FAILED) return SystemError("map", path_);
      vectors.mapping_ = mapping;
      vectors.mapping_bytes_ = vectors.bytes_;
      vectors.data_ = static_cast<const float*>(mapping);
      checksum.Add(vectors.data_, vectors.bytes_);
    } else {
      OCTOGATE_RETURN_IF_ERROR(ReadPart(values, &vectors.values_, &checksum));
      vectors.data_ = vectors.values_.data();
    }
    if (checksum.value() != header.checksum) {
      return absl::DataLossError(absl::StrCat("the vector index ", Quoted(path_, 300),
                                              " is damaged: its checksum is wrong; build it anew"));
    }
    for (size_t i = 0; i < file.removed.size(); ++i) {
      if (file.removed[i] >= header.rows || (i > 0 && file.removed[i] <= file.removed[i - 1])) {
        return Invalid("its removed rows are no rows in order");
      }
    }
    return file;
  }

  absl::Status Invalid(std::string_view why) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot use ", Quoted(path_, 300), " as a vector index: ", ToAbsl(why), "; build it anew"));
  }

 private:
  absl::Status ReadHeader(size_t max_dimension, size_t max_vectors, Header* header) {
    struct stat info;
    if (fstat(fd_, &info) != 0) return SystemError("read", path_);
    if (!S_ISREG(info.st_mode)) return Invalid("it is no file");
    if (static_cast<uint64_t>(info.st_size) < sizeof(Header)) return Invalid("it is too short");
    OCTOGATE_RETURN_IF_ERROR(ReadBytes(header, sizeof(Header)));
    if (std::memcmp(header->magic, kMagic, sizeof(kMagic)) != 0) {
      return Invalid("it does not begin like one");
    }
    if (header->version != kVersion) {
      return Invalid(absl::StrCat("its format is ", header->version, ", not ", kVersion));
    }
    // Bounds on all counts before anything is computed of them.
    if (header->dimension == 0 || header->dimension > max_dimension || header->rows > max_vectors ||
        header->removed > header->rows || header->links < 0 ||
        header->neighbors > static_cast<uint64_t>(info.st_size) / sizeof(int32_t) ||
        (header->links == 0 && header->neighbors > 0)) {
      return Invalid("its sizes are out of range");
    }
    const uint64_t bytes = VectorsAt(*header) + header->rows * header->dimension * sizeof(float);
    if (header->file_bytes != bytes || static_cast<uint64_t>(info.st_size) != bytes) {
      return absl::DataLossError(absl::StrCat("the vector index ", Quoted(path_, 300), " has ",
                                              info.st_size, " bytes, not ", bytes,
                                              "; build it anew"));
    }
    return absl::OkStatus();
  }

  template <typename T>
  absl::Status ReadPart(size_t count, std::vector<T>* part, Checksum* checksum) {
    part->resize(count);
    OCTOGATE_RETURN_IF_ERROR(ReadBytes(part->data(), count * sizeof(T)));
    checksum->Add(part->data(), count * sizeof(T));
    return absl::OkStatus();
  }

  absl::Status ReadBytes(void* into, size_t bytes) {
    auto* to = static_cast<char*>(into);
    while (bytes > 0) {
      const ssize_t got = pread(fd_, to, std::min<size_t>(bytes, 1 << 30), static_cast<off_t>(at_));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return SystemError("read", path_);
      if (got == 0) {
        return absl::DataLossError(
            absl::StrCat("the vector index ", Quoted(path_, 300), " ended while it was read"));
      }
      to += got;
      at_ += static_cast<size_t>(got);
      bytes -= static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

  const std::string& path_;
  const int fd_;
  size_t at_ = 0;
};

absl::StatusOr<VectorFile> ReadVectorFile(const std::string& path, bool map, size_t max_dimension,
                                          size_t max_vectors) {
  // Without waiting where it is a pipe.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return SystemError("open", path);
  return VectorFileReader(path, file.get()).Read(map, max_dimension, max_vectors);
}

}  // namespace octogate::retrieval
