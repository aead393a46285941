#ifndef OCTOGATE_RETRIEVAL_VECTOR_FILE_H_
#define OCTOGATE_RETRIEVAL_VECTOR_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The file of a vector index: a header of fixed size, ids, removed rows, the graph, and at a
// multiple of the page size the vectors. Little-endian; a checksum covers everything.

namespace octogate::retrieval {

// Of a graph with `links`: the vectors' levels (1: the lowest alone) and, level by level, their
// neighbours' rows, -1 where there is none.
struct VectorGraph {
  int links = 0;  // 0: there is no graph, and all else is empty.
  int32_t entry = -1;
  std::vector<int32_t> levels;
  std::vector<int32_t> neighbors;
};

// The vectors of a file, in memory or mapped.
class FileVectors {
 public:
  FileVectors() = default;
  FileVectors(const FileVectors&) = delete;
  FileVectors& operator=(const FileVectors&) = delete;
  ~FileVectors();

  const float* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  bool mapped() const { return mapping_ != nullptr; }

 private:
  friend class VectorFileReader;

  std::vector<float> values_;  // Unless mapped.
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  const float* data_ = nullptr;
  size_t bytes_ = 0;
};

struct VectorFile {
  size_t dimension = 0;
  std::vector<int64_t> ids;       // Of each row.
  std::vector<uint32_t> removed;  // Rows that are not found.
  VectorGraph graph;
  std::unique_ptr<FileVectors> vectors;
};

// Of what is written. The rows of both spans of vectors, one behind the other.
struct VectorFileParts {
  size_t dimension = 0;
  std::span<const int64_t> ids;
  std::span<const uint32_t> removed;
  int links = 0;
  int32_t entry = -1;
  std::span<const int32_t> levels;
  std::span<const int32_t> neighbors;
  std::span<const float> vectors[2];
};

// As VectorIndex::Save.
absl::Status WriteVectorFile(const std::string& path, const VectorFileParts& parts);

// As VectorIndex::Load. Sizes, checksum, removed rows and the lengths of the parts are right in
// what it returns; what is in the graph has not been looked at.
absl::StatusOr<VectorFile> ReadVectorFile(const std::string& path, bool map, size_t max_dimension,
                                          size_t max_vectors);

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_VECTOR_FILE_H_
