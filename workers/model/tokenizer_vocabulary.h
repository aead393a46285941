// The tokens of a vocabulary.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_VOCABULARY_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_VOCABULARY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "workers/model/tokenizer_json.h"

namespace octogate::workers {

// Token spellings by id, and ids by spelling.
class Vocabulary {
 public:
  // The object "vocab" of a model: {spelling: id, …}, indexed.
  static absl::StatusOr<std::unique_ptr<Vocabulary>> Parse(const JsonNode& node);

  // `id` must be new and in range; `token` must be new.
  void Add(std::string_view token, int32_t id);
  // After the last Add.
  void BuildIndex();

  std::optional<int32_t> Id(std::string_view token) const;
  // Whether there is a token `id`.
  bool Has(int32_t id) const;
  std::string_view Token(int32_t id) const;
  // One more than the largest id.
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Entry {
    uint32_t begin = kNone;
    uint32_t length = 0;
  };
  std::string text_;
  std::vector<Entry> entries_;
  absl::flat_hash_map<std::string_view, int32_t> ids_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_VOCABULARY_H_
