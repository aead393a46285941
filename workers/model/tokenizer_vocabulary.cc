#include "workers/model/tokenizer_vocabulary.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer.h"

namespace octogate::workers {

absl::StatusOr<std::unique_ptr<Vocabulary>> Vocabulary::Parse(const JsonNode& node) {
  if (!node.is_object()) {
    return node.Error(absl::StrCat("expected an object, found ", node.value().type_name()));
  }
  auto vocabulary = std::make_unique<Vocabulary>();
  for (const auto& [token, value] : node.value().items()) {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode entry, node.Get(token));
    OCTOGATE_ASSIGN_OR_RETURN(const int64_t id, entry.Integer(0, Tokenizer::kMaxVocabSize - 1));
    const auto id32 = static_cast<int32_t>(id);
    if (vocabulary->Has(id32)) {
      return entry.Error(
          absl::StrCat("the id ", id, " is already that of ", Quoted(vocabulary->Token(id32))));
    }
    vocabulary->Add(token, id32);
  }
  if (vocabulary->size() == 0) {
    return node.Error("is empty");
  }
  vocabulary->BuildIndex();
  return vocabulary;
}

void Vocabulary::Add(std::string_view token, int32_t id) {
  const auto index = static_cast<size_t>(id);
  if (index >= entries_.size()) {
    entries_.resize(index + 1);
  }
  entries_[index] = {static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(token.size())};
  text_.append(token);
}

void Vocabulary::BuildIndex() {
  ids_.clear();
  ids_.reserve(entries_.size());
  for (int32_t id = 0; id < size(); ++id) {
    if (Has(id)) {
      ids_.emplace(Token(id), id);
    }
  }
}

std::optional<int32_t> Vocabulary::Id(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

bool Vocabulary::Has(int32_t id) const {
  return id >= 0 && id < size() && entries_[static_cast<size_t>(id)].begin != kNone;
}

std::string_view Vocabulary::Token(int32_t id) const {
  const Entry& entry = entries_[static_cast<size_t>(id)];
  return std::string_view(text_).substr(entry.begin, entry.length);
}

}  // namespace octogate::workers
