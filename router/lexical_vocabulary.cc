#include "router/lexical_vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace octogate::router {
namespace {

// Runs of characters are many and overlap, so that they would outweigh words. Chosen on the
// validation texts of CLINC150.
constexpr float kRunWeight = 0.5F;

// 1 + ln n; a longer table would be read seldom.
float Frequency(uint32_t count) {
  static constexpr size_t kTableSize = 16;
  static const auto table = [] {
    std::array<float, kTableSize> values{};
    for (size_t n = 1; n < kTableSize; ++n) {
      values[n] = static_cast<float>(1 + std::log(static_cast<double>(n)));
    }
    return values;
  }();
  if (count < kTableSize) return table[count];
  return static_cast<float>(1 + std::log(static_cast<double>(count)));
}

float InverseDocumentFrequency(size_t texts, uint32_t documents) {
  return static_cast<float>(std::log((1.0 + static_cast<double>(texts)) / (1.0 + documents)) + 1);
}

void ScaleRow(float factor, size_t row, LinearModel* model) {
  float* weights = &model->weights[row * model->stride];
  for (size_t c = 0; c < model->stride; ++c) weights[c] *= factor;
}

}  // namespace

LexicalVocabulary::LexicalVocabulary(int hash_bits)
    : shift_(64 - hash_bits), known_(1), buckets_(size_t{1} << hash_bits) {}

SparseRows LexicalVocabulary::Index(const std::vector<std::string_view>& texts) {
  CountDocuments(texts);
  return MakeRows(texts);
}

void LexicalVocabulary::CountDocuments(const std::vector<std::string_view>& texts) {
  // Of terms, in order of first occurrence: how many texts have them.
  std::vector<uint32_t> documents;
  std::vector<Known> terms;
  absl::flat_hash_map<uint64_t, uint32_t> rows;
  std::vector<uint32_t> run_documents(buckets_.size());
  std::vector<size_t> last_text(buckets_.size());
  LexicalFeatureExtractor extractor;
  for (size_t i = 0; i < texts.size(); ++i) {
    for (const LexicalTerm& term : extractor.Extract(texts[i])) {
      const auto next = static_cast<uint32_t>(terms.size());
      const auto [found, is_new] = rows.try_emplace(term.hash, next);
      if (is_new) {
        terms.push_back({.hash = term.hash, .row = next});
        documents.push_back(0);
      }
      ++documents[found->second];
      for (const uint64_t run : extractor.Runs(term)) {
        size_t& last = last_text[run >> shift_];
        if (last == i + 1) continue;
        last = i + 1;
        ++run_documents[run >> shift_];
      }
    }
  }

  for (size_t b = 0; b < buckets_.size(); ++b) {
    buckets_[b].value = kRunWeight * InverseDocumentFrequency(texts.size(), run_documents[b]);
    if (run_documents[b] == 0) continue;
    buckets_[b].row = static_cast<int32_t>(terms.size() + run_rows_++);
  }
  size_t capacity = 1;
  while (capacity < 2 * terms.size()) capacity *= 2;
  known_.assign(capacity, Known());
  for (const Known& term : terms) {
    term_values_.push_back(InverseDocumentFrequency(texts.size(), documents[term.row]));
    *Slot(term.hash) = term;
  }
  const float unknown = InverseDocumentFrequency(texts.size(), 0);
  unknown_square_ = unknown * unknown;
}

SparseRows LexicalVocabulary::MakeRows(const std::vector<std::string_view>& texts) {
  SparseRows rows;
  LexicalFeatureExtractor extractor;
  // 1 + where a row's last entry is: in this text, if it is behind `begin`.
  std::vector<size_t> place(this->rows());
  for (const std::string_view text : texts) {
    const size_t begin = rows.entries.size();
    const auto add = [&](uint32_t row, float value) {
      if (place[row] <= begin) {
        rows.entries.push_back({row, 0});
        place[row] = rows.entries.size();
      }
      rows.entries[place[row] - 1].value += value;
    };
    float squares = 0;
    for (const LexicalTerm& term : extractor.Extract(text)) {
      Known& known = *Slot(term.hash);
      const float value = term_values_[known.row];
      if (known.square == 0) known.square = value * value + RunSquares(extractor.Runs(term));
      const float frequency = Frequency(term.count);
      squares += frequency * frequency * known.square;
      add(known.row, frequency * value);
      for (const uint64_t run : extractor.Runs(term)) {
        const Bucket& bucket = BucketOf(run);
        add(static_cast<uint32_t>(bucket.row), frequency * bucket.value);
      }
    }
    const float scale = squares == 0 ? 0 : 1 / std::sqrt(squares);
    for (size_t i = begin; i < rows.entries.size(); ++i) rows.entries[i].value *= scale;
    rows.begin.push_back(rows.entries.size());
  }
  return rows;
}

void LexicalVocabulary::FoldRuns(const std::vector<std::string_view>& texts,
                                 LinearModel* model) const {
  for (size_t row = 0; row < term_values_.size(); ++row) ScaleRow(term_values_[row], row, model);
  for (const Bucket& bucket : buckets_) {
    if (bucket.row >= 0) ScaleRow(bucket.value, static_cast<size_t>(bucket.row), model);
  }
  const AddRowsFunction add_rows = FindAddRows();
  LexicalFeatureExtractor extractor;
  std::vector<bool> folded(term_values_.size());
  std::vector<SparseRows::Entry> runs;
  std::vector<float> sum(model->stride);
  for (const std::string_view text : texts) {
    for (const LexicalTerm& term : extractor.Extract(text)) {
      const uint32_t row = Slot(term.hash)->row;
      if (folded[row]) continue;
      folded[row] = true;
      runs.assign(1, {row, 1});
      for (const uint64_t run : extractor.Runs(term)) {
        runs.push_back({static_cast<uint32_t>(BucketOf(run).row), 1});
      }
      std::fill(sum.begin(), sum.end(), 0.0F);
      add_rows(runs.data(), runs.data() + runs.size(), model->weights.data(), model->stride,
               sum.data());
      std::copy(sum.begin(), sum.end(), &model->weights[row * model->stride]);
    }
  }
}

void LexicalVocabulary::Append(std::string_view text, LexicalFeatureExtractor* extractor,
                               std::vector<SparseRows::Entry>* vector) const {
  const size_t begin = vector->size();
  float squares = 0;
  for (const LexicalTerm& term : extractor->Extract(text)) {
    const float frequency = Frequency(term.count);
    const Known& known = *Slot(term.hash);
    float square = known.square;
    if (known.hash != 0) {
      vector->push_back({known.row, frequency});
    } else {
      square = unknown_square_;
      for (const uint64_t run : extractor->Runs(term)) {
        const Bucket& bucket = BucketOf(run);
        square += bucket.value * bucket.value;
        if (bucket.row >= 0) vector->push_back({static_cast<uint32_t>(bucket.row), frequency});
      }
    }
    squares += frequency * frequency * square;
  }
  if (squares == 0) return;
  const float scale = 1 / std::sqrt(squares);
  for (size_t i = begin; i < vector->size(); ++i) (*vector)[i].value *= scale;
}

float LexicalVocabulary::RunSquares(absl::Span<const uint64_t> runs) const {
  float squares = 0;
  for (const uint64_t run : runs) squares += BucketOf(run).value * BucketOf(run).value;
  return squares;
}

const LexicalVocabulary::Known* LexicalVocabulary::Slot(uint64_t hash) const {
  const size_t mask = known_.size() - 1;
  size_t slot = (hash >> 1) & mask;  // The lowest bit is always set.
  while (known_[slot].hash != hash && known_[slot].hash != 0) slot = (slot + 1) & mask;
  return &known_[slot];
}

LexicalVocabulary::Known* LexicalVocabulary::Slot(uint64_t hash) {
  return const_cast<Known*>(std::as_const(*this).Slot(hash));
}

}  // namespace octogate::router
