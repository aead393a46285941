#include "retrieval/schema/dense_index.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {
namespace {

using retrieval::VectorHit;
using retrieval::VectorIndex;

// More than an encoder's window (256 tokens) would be cut there.
constexpr size_t kMaxTextBytes = 800;
constexpr size_t kMaxValues = 5;
constexpr size_t kMaxValueBytesInText = 40;
// Vectors that are added between two looks at the clock.
constexpr size_t kPortion = 4096;
// Vectors that came since are searched one by one: they stay few beside the others.
constexpr size_t kMaxRecent = 1024;
// Beyond what is wanted, so that columns that may not be seen do not use it up.
constexpr size_t kSpareTexts = 64;

std::string Words(std::string_view name) { return absl::StrJoin(SplitWords(name), " "); }

// 63 bits of SHA-256: two texts of one digest would only share a vector.
int64_t DigestOf(std::string_view encoder, std::string_view text) {
  const std::string hex =
      Sha256Hex(absl::StrCat(encoder.size(), ":", ToAbsl(encoder), ToAbsl(text)));
  uint64_t digest = 0;
  for (const char c : hex.substr(0, 16)) {
    digest = digest << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return static_cast<int64_t>(digest >> 1);
}

absl::Status OutOfTime(absl::string_view what) {
  return absl::DeadlineExceededError(absl::StrCat("the deadline passed while ", what));
}

// To length 1; an error for what has no direction.
absl::Status Normalize(size_t dimension, absl::string_view what, std::vector<float>* vector) {
  if (vector->size() != dimension) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has ", vector->size(), " values, not ", dimension));
  }
  double squares = 0;
  for (const float value : *vector) squares += double{value} * double{value};
  if (!(squares > 0) || !std::isfinite(squares)) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is 0 or not finite"));
  }
  const double scale = 1 / std::sqrt(squares);
  for (float& value : *vector) value = static_cast<float>(value * scale);
  return absl::OkStatus();
}

// An index of the vectors that `find` gives for the digests, which ascend.
template <typename Find>
absl::StatusOr<std::shared_ptr<const VectorIndex>> MakeIndex(
    std::span<const int64_t> digests, const retrieval::VectorIndexOptions& options,
    absl::Time deadline, const Find& find) {
  OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<VectorIndex> index, VectorIndex::Create(options));
  std::vector<float> portion;
  for (size_t begin = 0; begin < digests.size(); begin += kPortion) {
    if (absl::Now() > deadline) return OutOfTime("vectors were added to an index");
    const auto part = digests.subspan(begin, std::min(kPortion, digests.size() - begin));
    portion.clear();
    for (const int64_t digest : part) {
      const std::span<const float> vector = find(digest);
      portion.insert(portion.end(), vector.begin(), vector.end());
    }
    OCTOGATE_RETURN_IF_ERROR(index->Add(part, portion));
  }
  return std::shared_ptr<const VectorIndex>(std::move(index));
}

std::string RecentPath(const std::string& path) { return path + ".recent"; }

}  // namespace

std::string ColumnText(const Table& table, const Column& column, bool in_family) {
  std::string name = table.name;
  if (in_family) {
    std::erase_if(name, [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); });
  }
  std::string text = absl::StrCat(Words(name), " . ", Words(column.name));
  if (!column.alias.empty() && Squash(column.alias) != Squash(column.name)) {
    absl::StrAppend(&text, " (", column.alias, ")");
  }
  if (!column.description.empty() && column.description != column.alias) {
    absl::StrAppend(&text, " : ", column.description);
  }
  if (!column.value_description.empty()) absl::StrAppend(&text, " ; ", column.value_description);
  if (!in_family && !column.sensitive && !column.values.empty()) {
    size_t said = 0;
    for (const std::string& value : column.values) {
      if (value.size() > kMaxValueBytesInText) continue;
      absl::StrAppend(&text, said == 0 ? " ; values: " : ", ", value);
      if (++said == kMaxValues) break;
    }
  }
  return std::string(TruncateUtf8(text, kMaxTextBytes));
}

size_t TextVectors::size() const {
  return (base == nullptr ? 0 : base->size()) + (recent == nullptr ? 0 : recent->size());
}

std::span<const float> TextVectors::Find(int64_t digest) const {
  std::span<const float> vector;
  if (base != nullptr) vector = base->Vector(digest);
  if (vector.empty() && recent != nullptr) vector = recent->Vector(digest);
  return vector;
}

absl::StatusOr<TextVectors> LoadTextVectors(const std::string& path, size_t dimension,
                                            const DenseIndexOptions& options, bool map) {
  retrieval::VectorIndexOptions vector_options = {.dimension = dimension,
                                                  .exact_up_to = options.exact_up_to,
                                                  .build_threads = options.build_threads};
  TextVectors vectors;
  OCTOGATE_ASSIGN_OR_RETURN(vectors.base, VectorIndex::Load(path, vector_options, map));
  vector_options.exact_up_to = SIZE_MAX;
  auto recent = VectorIndex::Load(RecentPath(path), vector_options, map);
  if (recent.ok()) {
    vectors.recent = *std::move(recent);
  } else if (!absl::IsNotFound(recent.status())) {
    return recent.status();
  }
  return vectors;
}

absl::StatusOr<std::shared_ptr<const DenseIndex>> DenseIndex::Build(
    std::shared_ptr<const Catalog> catalog, const TextEncoder& encoder, const DenseIndex* previous,
    const TextVectors* known, const DenseIndexOptions& options, absl::Time deadline) {
  if (encoder.fingerprint.empty() || encoder.dimension == 0 || encoder.max_batch == 0 ||
      !encoder.embed) {
    return absl::InvalidArgumentError(
        "an encoder needs a fingerprint, a dimension, a batch of at least 1 and a function");
  }
  std::shared_ptr<DenseIndex> index(new DenseIndex);
  index->catalog_ = std::move(catalog);
  index->encoder_ = encoder.fingerprint;
  index->dimension_ = encoder.dimension;
  index->options_ = options;
  if (previous != nullptr &&
      (previous->encoder_ != encoder.fingerprint || previous->dimension_ != encoder.dimension)) {
    previous = nullptr;
  }

  // Digests of all texts, and which columns have them.
  struct Said {
    int64_t digest;
    Posting posting;
  };
  std::vector<Said> said;
  said.reserve(index->catalog_->num_raw_columns());
  const std::vector<Entry>& entries = index->catalog_->entries();
  for (uint32_t e = 0; e < entries.size(); ++e) {
    const bool in_family = !entries[e].members.empty();
    const size_t count = in_family ? entries[e].members.size() : 1;
    for (uint32_t m = 0; m < count; ++m) {
      const CatalogTable& table = in_family ? *entries[e].members[m] : *entries[e].table;
      std::shared_ptr<const TableDigests> digests;
      if (previous != nullptr) {
        const auto before = previous->by_table_.find(&table);
        if (before != previous->by_table_.end() && before->second->in_family == in_family) {
          digests = before->second;
        }
      }
      if (digests == nullptr) {
        if (absl::Now() > deadline) return OutOfTime("texts of columns were made");
        TableDigests made{.in_family = in_family, .columns = {}};
        for (const Column& column : table.table.columns) {
          made.columns.push_back(
              DigestOf(encoder.fingerprint, ColumnText(table.table, column, in_family)));
        }
        digests = std::make_shared<const TableDigests>(std::move(made));
      }
      for (uint32_t c = 0; c < digests->columns.size(); ++c) {
        said.push_back({digests->columns[c], {.id = {e, c}, .member = m}});
      }
      index->by_table_.emplace(&table, std::move(digests));
    }
  }
  std::sort(said.begin(), said.end(), [](const Said& a, const Said& b) {
    if (a.digest != b.digest) return a.digest < b.digest;
    return std::pair(a.posting.id, a.posting.member) < std::pair(b.posting.id, b.posting.member);
  });
  index->postings_.reserve(said.size());
  for (const Said& text : said) {
    if (index->digests_.empty() || index->digests_.back() != text.digest) {
      index->digests_.push_back(text.digest);
      index->offsets_.push_back(static_cast<uint32_t>(index->postings_.size()));
    }
    index->postings_.push_back(text.posting);
  }
  index->offsets_.push_back(static_cast<uint32_t>(index->postings_.size()));
  if (index->digests_.size() > options.max_texts) {
    return absl::ResourceExhaustedError(absl::StrCat("the catalog has ", index->digests_.size(),
                                                     " different texts of columns; at most ",
                                                     options.max_texts, " are embedded"));
  }
  if (index->digests_.size() > options.max_values / std::max<size_t>(encoder.dimension, 1)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the catalog has ", index->digests_.size(), " different texts of columns, and vectors of ",
        encoder.dimension, " values would be more than ", options.max_values,
        " values; use a model with shorter vectors"));
  }
  OCTOGATE_RETURN_IF_ERROR(index->TakeVectors(encoder, previous, known, deadline));
  return std::shared_ptr<const DenseIndex>(std::move(index));
}

absl::StatusOr<absl::flat_hash_map<int64_t, std::vector<float>>> DenseIndex::Embed(
    const TextEncoder& encoder, std::span<const size_t> texts, absl::Time deadline) const {
  absl::flat_hash_map<int64_t, std::vector<float>> embedded;
  embedded.reserve(texts.size());
  for (size_t begin = 0; begin < texts.size(); begin += encoder.max_batch) {
    if (absl::Now() > deadline) {
      return OutOfTime(
          absl::StrCat("texts were embedded: ", begin, " of ", texts.size(), " are done"));
    }
    const auto batch = texts.subspan(begin, std::min(encoder.max_batch, texts.size() - begin));
    std::vector<std::string> batch_texts;
    for (const size_t text : batch) {
      const Posting& posting = postings_[offsets_[text]];
      const Table& table = Member(posting)->table;
      batch_texts.push_back(ColumnText(table, table.columns[posting.id.column],
                                       !catalog_->entries()[posting.id.entry].members.empty()));
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::vector<std::vector<float>> vectors,
                              encoder.embed(batch_texts, deadline));
    if (vectors.size() != batch.size()) {
      return absl::InvalidArgumentError(absl::StrCat("the encoder gave ", vectors.size(),
                                                     " vectors for ", batch.size(), " texts"));
    }
    for (size_t i = 0; i < batch.size(); ++i) {
      OCTOGATE_RETURN_IF_ERROR(Normalize(
          dimension_, absl::StrCat("the vector of ", Quoted(batch_texts[i])), &vectors[i]));
      embedded.emplace(digests_[batch[i]], std::move(vectors[i]));
    }
  }
  return embedded;
}

absl::Status DenseIndex::TakeVectors(const TextEncoder& encoder, const DenseIndex* previous,
                                     const TextVectors* known, absl::Time deadline) {
  const TextVectors before = previous != nullptr ? previous->vectors_ : TextVectors();
  const auto fits = [&](const std::shared_ptr<const VectorIndex>& vectors) {
    return vectors != nullptr && vectors->dimension() == dimension_;
  };
  const auto find_known = [&](int64_t digest) {
    std::span<const float> vector = before.Find(digest);
    if (vector.empty() && known != nullptr) vector = known->Find(digest);
    return vector.size() == dimension_ ? vector : std::span<const float>();
  };
  std::vector<size_t> missing;
  for (size_t i = 0; i < digests_.size(); ++i) {
    if (find_known(digests_[i]).empty()) missing.push_back(i);
  }
  OCTOGATE_ASSIGN_OR_RETURN(const auto embedded, Embed(encoder, missing, deadline));
  num_embedded_ = missing.size();
  const auto find = [&](int64_t digest) {
    const auto fresh = embedded.find(digest);
    return fresh != embedded.end() ? std::span<const float>(fresh->second) : find_known(digest);
  };
  const retrieval::VectorIndexOptions vector_options = {.dimension = dimension_,
                                                        .exact_up_to = options_.exact_up_to,
                                                        .build_threads = options_.build_threads};
  // The vectors that are there stay where they are while most are used and few are new.
  std::shared_ptr<const VectorIndex> base = before.base;
  if (base == nullptr && known != nullptr && fits(known->base)) base = known->base;
  if (base != nullptr) {
    std::vector<int64_t> others;
    for (const int64_t digest : digests_) {
      if (base->Vector(digest).empty()) others.push_back(digest);
    }
    const size_t used = digests_.size() - others.size();
    if (used * 2 >= base->size() && others.size() <= std::max(kMaxRecent, base->size() / 4)) {
      vectors_.base = std::move(base);
      if (others.empty()) return absl::OkStatus();
      retrieval::VectorIndexOptions exact = vector_options;
      exact.exact_up_to = SIZE_MAX;
      OCTOGATE_ASSIGN_OR_RETURN(vectors_.recent, MakeIndex(others, exact, deadline, find));
      return absl::OkStatus();
    }
  }
  OCTOGATE_ASSIGN_OR_RETURN(vectors_.base, MakeIndex(digests_, vector_options, deadline, find));
  return absl::OkStatus();
}

absl::StatusOr<DenseQuery> DenseIndex::Query(std::vector<std::vector<float>> vectors) const {
  if (vectors.empty()) return absl::InvalidArgumentError("a query needs a vector");
  for (std::vector<float>& vector : vectors) {
    OCTOGATE_RETURN_IF_ERROR(Normalize(dimension_, "the question's vector", &vector));
  }
  return DenseQuery(shared_from_this(), std::move(vectors));
}

bool DenseIndex::exact() const { return vectors_.base == nullptr || vectors_.base->exact(); }

absl::Status DenseIndex::Save(const std::string& path) const {
  OCTOGATE_RETURN_IF_ERROR(vectors_.base->Save(path));
  if (vectors_.recent != nullptr) return vectors_.recent->Save(RecentPath(path));
  std::error_code error;
  std::filesystem::remove(RecentPath(path), error);
  if (error) return absl::InternalError(absl::StrCat(RecentPath(path), ": ", error.message()));
  return absl::OkStatus();
}

const CatalogTable* DenseIndex::Member(const Posting& posting) const {
  const Entry& entry = catalog_->entries()[posting.id.entry];
  return entry.members.empty() ? entry.table.get() : entry.members[posting.member].get();
}

bool DenseIndex::Sees(const Visibility& visible, const Posting& posting) const {
  const CatalogTable* const table = Member(posting);
  if (visible.everything) return catalog_->entries()[posting.id.entry].table.get() == table;
  return visible.tables[posting.id.entry] == table &&
         visible.columns[catalog_->number(posting.id)] != 0;
}

std::span<const DenseIndex::Posting> DenseIndex::PostingsOf(int64_t digest) const {
  const auto at = std::lower_bound(digests_.begin(), digests_.end(), digest);
  if (at == digests_.end() || *at != digest) return {};  // of a text that is no more
  const auto text = static_cast<size_t>(at - digests_.begin());
  return {postings_.data() + offsets_[text], postings_.data() + offsets_[text + 1]};
}

std::vector<int64_t> DenseIndex::VisibleDigests(const Visibility& visible) const {
  std::vector<int64_t> digests;
  for (size_t i = 0; i < digests_.size(); ++i) {
    const bool seen =
        std::any_of(postings_.begin() + offsets_[i], postings_.begin() + offsets_[i + 1],
                    [&](const Posting& posting) { return Sees(visible, posting); });
    if (seen) digests.push_back(digests_[i]);
  }
  return digests;
}

std::vector<DenseColumns::Hit> DenseQuery::Nearest(const Visibility& visible, size_t limit) const {
  std::optional<std::vector<int64_t>> selected;                    // made when it is needed first
  absl::flat_hash_map<std::pair<uint32_t, uint32_t>, float> best;  // by entry and column
  for (const std::vector<float>& vector : vectors_) {
    for (const Hit& hit : NearestTo(vector, visible, limit, &selected)) {
      const auto [at, is_new] =
          best.emplace(std::pair(hit.id.entry, hit.id.column), hit.similarity);
      if (!is_new) at->second = std::max(at->second, hit.similarity);
    }
  }
  std::vector<Hit> hits;
  hits.reserve(best.size());
  for (const auto& [id, similarity] : best) hits.push_back({{id.first, id.second}, similarity});
  std::sort(hits.begin(), hits.end(), [](const Hit& a, const Hit& b) {
    return a.similarity != b.similarity ? a.similarity > b.similarity : a.id < b.id;
  });
  if (hits.size() > limit) hits.resize(limit);
  return hits;
}

std::vector<DenseColumns::Hit> DenseQuery::NearestTo(
    std::span<const float> vector, const Visibility& visible, size_t limit,
    std::optional<std::vector<int64_t>>* selected) const {
  const TextVectors& vectors = index_->vectors_;
  const auto search = [&](size_t k, const retrieval::VectorSelector* selector) {
    std::vector<VectorHit> found;
    for (const auto& part : {vectors.base, vectors.recent}) {
      if (part == nullptr) continue;
      // It fails for want of memory alone: words then speak for themselves.
      const auto hits = part->Search(vector, k, {.selector = selector});
      if (hits.ok()) found.insert(found.end(), hits->begin(), hits->end());
    }
    std::sort(found.begin(), found.end(), [](const VectorHit& a, const VectorHit& b) {
      return a.score != b.score ? a.score > b.score : a.id < b.id;
    });
    if (found.size() > k) found.resize(k);
    return found;
  };
  const auto columns_of = [&](const std::vector<VectorHit>& texts) {
    std::vector<Hit> hits;
    for (const VectorHit& text : texts) {
      for (const DenseIndex::Posting& posting : index_->PostingsOf(text.id)) {
        if (hits.size() == limit) return hits;
        if (index_->Sees(visible, posting)) hits.push_back({posting.id, text.score});
      }
    }
    return hits;
  };
  // Most callers see most columns: the nearest of all texts are then enough.
  const size_t generous = 2 * limit + kSpareTexts;
  if (!selected->has_value()) {
    const std::vector<VectorHit> texts = search(generous, nullptr);
    std::vector<Hit> hits = columns_of(texts);
    if (hits.size() >= limit || texts.size() < generous) return hits;
    *selected = index_->VisibleDigests(visible);
  }
  const retrieval::VectorSelector selector = {.ids = **selected, .ranges = {}};
  return columns_of(search(limit, &selector));
}

}  // namespace octogate::schema
