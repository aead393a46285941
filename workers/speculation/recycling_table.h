// The table of Token Recycling (Luo et al. 2024, arXiv:2408.08696): for each token, the candidates
// that the model last had after it, best first.
//
// Rows of pairs of tokens are kept beside it: more telling, but of as many pairs only as there is
// room for, in a hash table of four ways that drops the row changed longest ago. No row has a token
// twice.
//
// Every change gives its row a version, greater than any that the table has seen (a Lamport clock).
// Export writes the rows changed after a version and Merge keeps of two versions of a row the later
// one, and of equal ones the one with the greater tokens. So replicas that merge the same exports,
// in any order and any number of times, hold the same rows: merging is commutative, associative and
// idempotent. A row that came by Merge keeps its version: it may be missing in a later
// Export(since), and replicas that do not read each other directly have to exchange Export(0).
//
// Thread safety: as the drafter's.
#ifndef OCTOGATE_WORKERS_SPECULATION_RECYCLING_TABLE_H_
#define OCTOGATE_WORKERS_SPECULATION_RECYCLING_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace octogate::workers {

// Values out of range are taken as the nearest one in it. With the default rows, a vocabulary of
// 32,000 takes less than 2 MB.
struct RecyclingTableOptions {
  int vocab_size = 0;        // at least 1
  int row_size = 8;          // tokens of a row, 1 to kMaxRecyclingRow
  int context_rows = 12288;  // of pairs, rounded up to a multiple of 4; 0: none
};

inline constexpr int kMaxRecyclingRow = 32;
inline constexpr int kMaxRecyclingPairs = 1 << 20;  // that people may ask for
// How far an export's versions may be ahead of a table's: a hundred thousand changes a second for
// five years. What is further ahead was made up, to outlive all that will ever be learned.
inline constexpr uint64_t kMaxRecyclingLead = uint64_t{1} << 44;

// Of which a row is.
struct RecyclingContext {
  int32_t previous = -1;  // -1: of a token alone
  int32_t token = 0;

  bool operator==(const RecyclingContext&) const = default;
};

class RecyclingTable {
 public:
  explicit RecyclingTable(const RecyclingTableOptions& options);

  int vocab_size() const { return vocab_size_; }
  int row_size() const { return row_size_; }
  // Tokens that are not of the vocabulary have no rows, and nothing is learned of them.
  bool IsToken(int32_t token) const { return token >= 0 && token < vocab_size_; }

  // The row of a token or of a pair, empty where there is none. Valid until the table changes.
  std::span<const int32_t> After(int32_t token) const;
  std::span<const int32_t> After(int32_t previous, int32_t token) const;

  // How many it has room for, and how many there are.
  size_t rows() const { return versions_.size() + pairs_.size(); }
  size_t used_rows() const;
  // Whether there is such a row, and all that there are.
  bool Has(const RecyclingContext& context) const;
  std::vector<RecyclingContext> Contexts() const;

  // The rows of `token` and of the pair (if `previous` is a token) become these candidates: of
  // those that are tokens the first row_size, each once. Changes nothing where none is.
  void Set(int32_t previous, int32_t token, std::span<const int32_t> candidates);
  // `next` becomes the first of both rows, as the successor seen last.
  void Prepend(int32_t previous, int32_t token, int32_t next);

  // Of a full row in an export.
  static constexpr size_t RowBytes(int row_size) {
    return 20 + sizeof(int32_t) * static_cast<size_t>(row_size);
  }

  // The greatest that a row has or that was merged; 0: nothing has ever changed.
  uint64_t version() const { return version_; }

  // The rows with versions greater than `since`, as bytes for Merge. Those of one table are the
  // same bytes each time.
  std::string Export(uint64_t since) const;
  // Of the rows that Set and Prepend have changed since they were last taken, about `most_rows` at
  // most and at least one, as an export; what came by Merge is none of them. Empty: there are none.
  std::string TakeChanged(size_t most_rows);
  // Of these rows those that are there.
  std::string ExportRows(std::span<const RecyclingContext> contexts) const;
  // Returns how many rows have changed, and adds them to `changed`. INVALID_ARGUMENT, and nothing
  // has changed, where the bytes are not those of an export of a table with the same vocabulary and
  // row size, or have versions that no table can have come to (kMaxRecyclingLead).
  absl::StatusOr<int> Merge(std::string_view bytes,
                            std::vector<RecyclingContext>* changed = nullptr);

  // What it has allocated.
  uint64_t bytes() const;

 private:
  struct Row {
    int32_t* tokens = nullptr;  // row_size of them, -1 behind the last
    uint64_t* version = nullptr;
  };

  static constexpr size_t kWays = 4;

  int32_t* Tokens(std::vector<int32_t>& rows, size_t row) const;
  std::span<const int32_t> Filled(const std::vector<int32_t>& rows, size_t row) const;
  size_t FirstWay(uint64_t key) const;
  Row TokenRow(int32_t token);
  // The row of a pair to be changed to `version`, emptied where it was another's; null where all
  // rows it could have are later ones.
  Row PairRow(uint64_t key, uint64_t version);
  // The number of a row, as ExportNumbered has it; rows() where there is none.
  size_t NumberOf(const RecyclingContext& context) const;
  // Where the row of a pair is; a number of rows where it is not.
  size_t FindPair(int32_t previous, int32_t token) const;
  void MarkChanged(size_t number);
  static void PutFirst(int32_t next, std::span<int32_t> row);
  // Rows by number, those of pairs behind those of tokens.
  std::string ExportNumbered(std::vector<size_t> numbers) const;

  int vocab_size_;
  int row_size_;
  uint64_t version_ = 0;
  std::vector<int32_t> rows_;
  std::vector<uint64_t> versions_;
  std::vector<uint64_t> pairs_;  // 0: the row is free
  std::vector<int32_t> pair_rows_;
  std::vector<uint64_t> pair_versions_;
  std::vector<uint64_t> changed_;  // a bit for each row by number
  size_t changed_word_ = 0;        // where TakeChanged goes on
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_RECYCLING_TABLE_H_
