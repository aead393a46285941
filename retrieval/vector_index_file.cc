// Saves and loads a VectorIndex.
#include <cmath>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/strings.h"
#include "retrieval/vector_file.h"
#include "retrieval/vector_index_state.h"

namespace octogate::retrieval {

absl::Status VectorIndex::Save(const std::string& path) const {
  const State& state = *state_;
  try {
    std::vector<uint32_t> removed;
    for (size_t row = 0; row < state.removed.size(); ++row) {
      if (state.removed[row]) removed.push_back(static_cast<uint32_t>(row));
    }
    VectorFileParts parts = {.dimension = state.rows.dimension, .ids = state.ids};
    parts.removed = removed;
    if (state.rows.file_rows > 0) {
      parts.vectors[0] = {state.rows.file->data(), state.rows.file_rows * state.rows.dimension};
    }
    parts.vectors[1] = state.rows.own;
    if (state.graph != nullptr) {
      const faiss::HNSW& hnsw = state.graph->index.hnsw;
      parts.links = state.options.links;
      parts.entry = hnsw.entry_point;
      parts.levels = hnsw.levels;
      parts.neighbors = hnsw.neighbors;
    }
    return WriteVectorFile(path, parts);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("there is no memory to save a vector index");
  }
}

absl::StatusOr<std::unique_ptr<VectorIndex>> VectorIndex::Load(const std::string& path,
                                                               const VectorIndexOptions& options,
                                                               bool map) {
  try {
    OCTOGATE_ASSIGN_OR_RETURN(VectorFile file,
                              ReadVectorFile(path, map, kMaxDimension, kMaxVectors));
    const auto invalid = [&path](std::string_view why) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot use '", path, "' as a vector index: ", ToAbsl(why), "; build it anew"));
    };
    if (options.dimension != 0 && options.dimension != file.dimension) {
      return invalid(
          absl::StrCat("its vectors have ", file.dimension, " values, not ", options.dimension));
    }
    VectorIndexOptions with_dimension = options;
    with_dimension.dimension = file.dimension;
    if (file.graph.links != 0) with_dimension.links = file.graph.links;
    OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<VectorIndex> index, Create(with_dimension));
    State& state = *index->state_;
    const size_t rows = file.ids.size();
    state.rows.file = std::move(file.vectors);
    state.rows.file_rows = rows;
    state.removed.assign(rows, false);
    for (const uint32_t row : file.removed) state.removed[row] = true;
    state.places.reserve(rows);
    for (size_t row = 0; row < rows; ++row) {
      state.ascending = state.ascending && (row == 0 || file.ids[row - 1] < file.ids[row]);
      if (state.removed[row]) continue;
      if (!state.places.emplace(file.ids[row], static_cast<uint32_t>(row)).second) {
        return invalid(absl::StrCat("it has two vectors ", file.ids[row]));
      }
      const float square = state.rows.Product(state.rows[row], row);
      if (!(std::abs(square - 1) <= 3 * kUnitTolerance)) {
        return invalid(absl::StrCat("the vector of ", file.ids[row], " has not the length 1"));
      }
    }
    state.ids = std::move(file.ids);
    if (file.graph.links == 0) return index;
    absl::StatusOr<std::unique_ptr<VectorLinks>> graph = MakeLinks(&state.rows, &file.graph);
    if (!graph.ok()) return invalid(ToStd(graph.status().message()));
    state.graph = *std::move(graph);
    return index;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there is no memory for the vector index '", path, "'"));
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("the vector index '", path, "' was not read: ", error.what()));
  }
}

}  // namespace octogate::retrieval
