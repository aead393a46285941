// The vectors of an index, row by row.
#ifndef OCTOGATE_RETRIEVAL_VECTOR_ROWS_H_
#define OCTOGATE_RETRIEVAL_VECTOR_ROWS_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "retrieval/dot_product.h"
#include "retrieval/vector_file.h"

namespace octogate::retrieval {

// The vectors, those of a file first.
struct VectorRows {
  size_t dimension = 0;
  std::unique_ptr<FileVectors> file;
  size_t file_rows = 0;
  std::vector<float> own;
  DotProductFunction dot = FindDotProduct();

  const float* operator[](size_t row) const {
    return row < file_rows ? file->data() + row * dimension
                           : own.data() + (row - file_rows) * dimension;
  }
  float Product(const float* query, size_t row) const {
    return dot(query, (*this)[row], dimension);
  }
};

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_VECTOR_ROWS_H_
