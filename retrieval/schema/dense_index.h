// Vectors of a catalog's columns, and those nearest to a question's.
//
// A text stands for a column (ColumnText); equal texts are embedded once, however many columns have
// them. Vectors are known by a digest of their text and of the encoder, so an index of a changed
// catalog embeds the texts that are new and takes the others from the index before it or from a
// file. Up to `exact_up_to` vectors every visible one is compared; beyond, a graph leads to the
// nearest (retrieval/vector_index.h).
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_DENSE_INDEX_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_DENSE_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "retrieval/schema/linker.h"
#include "retrieval/vector_index.h"

namespace octogate::schema {

// A sentence encoder as this library needs one.
struct TextEncoder {
  // Of weights, pooling and everything else that vectors depend on: those of another fingerprint
  // are not taken over.
  std::string fingerprint;
  size_t dimension = 0;
  // One vector of `dimension` values per text, in order, of any length but 0. Called from the
  // thread that builds, with at most `max_batch` texts; should give up at the deadline.
  std::function<absl::StatusOr<std::vector<std::vector<float>>>(std::span<const std::string> texts,
                                                                absl::Time deadline)>
      embed;
  size_t max_batch = 64;
};

struct DenseIndexOptions {
  size_t exact_up_to = 100'000;         // vectors; of more, a graph is built
  size_t max_texts = 1'000'000;         // different ones; a vector of 384 values is 1.5 KiB
  size_t max_values = size_t{1} << 28;  // of all vectors: 1 GiB
  int build_threads = 1;                // of the graph; with one, equal calls build equal graphs
};

// What a column says to an encoder: "orders . ship country (destination) : where it goes to ;
// values: Norway, Peru". Names are split into words. A family's columns are named by the
// digits-free part of the table's name and say no values, which are those of one member; nothing of
// other columns is said, which a caller may not be allowed to see.
std::string ColumnText(const Table& table, const Column& column, bool in_family);

// Vectors by the digest of their text. Immutable and shared between indexes; either may be null.
struct TextVectors {
  std::shared_ptr<const retrieval::VectorIndex> base;
  std::shared_ptr<const retrieval::VectorIndex> recent;  // texts that came since, always exact

  size_t size() const;
  // Empty where the text is not known. Valid as long as this is.
  std::span<const float> Find(int64_t digest) const;
};

// Reads what DenseIndex::Save has written, for DenseIndex::Build; errors as VectorIndex::Load. With
// `map` vectors stay in the files, shared with other processes.
absl::StatusOr<TextVectors> LoadTextVectors(const std::string& path, size_t dimension,
                                            const DenseIndexOptions& options = {},
                                            bool map = false);

class DenseQuery;

// Immutable, safe to use from any thread.
class DenseIndex : public std::enable_shared_from_this<DenseIndex> {
 public:
  // Takes vectors and digests of `previous` and then vectors of `known`; either may be null, and
  // neither need be of the same catalog or encoder. Results do not depend on them as long as
  // searches are exact. INVALID_ARGUMENT for an encoder without fingerprint or with vectors of
  // another size than it says; RESOURCE_EXHAUSTED past max_texts or max_values; DEADLINE_EXCEEDED;
  // errors of `embed` are passed on. Does not embed anything where all texts are known.
  static absl::StatusOr<std::shared_ptr<const DenseIndex>> Build(
      std::shared_ptr<const Catalog> catalog, const TextEncoder& encoder,
      const DenseIndex* previous = nullptr, const TextVectors* known = nullptr,
      const DenseIndexOptions& options = {}, absl::Time deadline = absl::InfiniteFuture());

  // For one link. Of several vectors (of a question and of its parts) a column's similarity is the
  // largest. They need not have length 1. INVALID_ARGUMENT for none, or one of another size, of
  // length 0 or not finite.
  absl::StatusOr<DenseQuery> Query(std::vector<std::vector<float>> vectors) const;

  const Catalog& catalog() const { return *catalog_; }
  const TextVectors& vectors() const { return vectors_; }
  const std::string& encoder() const { return encoder_; }  // its fingerprint
  size_t num_texts() const { return digests_.size(); }     // of this catalog
  size_t num_embedded() const { return num_embedded_; }    // of them, by Build
  bool exact() const;

  // Writes the vectors to `path`, and those that came since to `path`.recent, each in the place of
  // one that is there. Vectors are known by their digests, so files of different times fit
  // together.
  absl::Status Save(const std::string& path) const;

 private:
  friend class DenseQuery;
  // A column of a table; of families, of each member.
  struct Posting {
    ColumnId id;
    uint32_t member = 0;  // in Entry::members; 0 for a table alone
  };
  // Of a table's columns.
  struct TableDigests {
    bool in_family = false;
    std::vector<int64_t> columns;
  };
  using DigestsByTable =
      absl::flat_hash_map<const CatalogTable*, std::shared_ptr<const TableDigests>>;

  DenseIndex() = default;
  // Of texts by their position in digests_.
  absl::StatusOr<absl::flat_hash_map<int64_t, std::vector<float>>> Embed(
      const TextEncoder& encoder, std::span<const size_t> texts, absl::Time deadline) const;
  absl::Status TakeVectors(const TextEncoder& encoder, const DenseIndex* previous,
                           const TextVectors* known, absl::Time deadline);
  const CatalogTable* Member(const Posting& posting) const;
  bool Sees(const Visibility& visible, const Posting& posting) const;
  std::span<const Posting> PostingsOf(int64_t digest) const;
  // Digests of visible texts, ascending.
  std::vector<int64_t> VisibleDigests(const Visibility& visible) const;

  std::shared_ptr<const Catalog> catalog_;
  std::string encoder_;
  size_t dimension_ = 0;
  DenseIndexOptions options_;
  TextVectors vectors_;
  DigestsByTable by_table_;
  std::vector<int64_t> digests_;   // of the texts, ascending
  std::vector<uint32_t> offsets_;  // of each text's postings, and the end
  std::vector<Posting> postings_;  // by text and id
  size_t num_embedded_ = 0;
};

// A question's vectors and the index they ask. Keeps the index alive.
class DenseQuery final : public DenseColumns {
 public:
  // Exact as long as the index is. By similarity, of equally similar ones the first by id; texts
  // equally near at the limit are taken by their digests. `visible` must be of a LinkIndex of the
  // same catalog.
  std::vector<Hit> Nearest(const Visibility& visible, size_t limit) const override;
  const Catalog* catalog() const override { return &index_->catalog(); }

 private:
  friend class DenseIndex;
  DenseQuery(std::shared_ptr<const DenseIndex> index, std::vector<std::vector<float>> vectors)
      : index_(std::move(index)), vectors_(std::move(vectors)) {}
  std::vector<Hit> NearestTo(std::span<const float> vector, const Visibility& visible, size_t limit,
                             std::optional<std::vector<int64_t>>* selected) const;

  std::shared_ptr<const DenseIndex> index_;
  std::vector<std::vector<float>> vectors_;
};

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_DENSE_INDEX_H_
