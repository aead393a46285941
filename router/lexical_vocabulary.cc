#include "router/lexical_vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace octogate::router {
namespace {

// Runs of characters are many and overlap, so that they would outweigh words. Chosen on the
// validation texts of CLINC150.
constexpr float kRunWeight = 0.5F;

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

// A longer table would be read seldom.
float LexicalVocabulary::Frequency(uint32_t count) {
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
    const float value = kRunWeight * InverseDocumentFrequency(texts.size(), run_documents[b]);
    buckets_[b].square = value * value;
    if (run_documents[b] == 0) continue;
    buckets_[b].row = static_cast<int32_t>(terms.size() + run_values_.size());
    run_values_.push_back(value);
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
      const float frequency = Frequency(term.count);
      const absl::Span<const uint64_t> runs = extractor.Runs(term);
      if (known.hash != 0) {
        const float value = term_values_[known.row];
        if (known.square == 0) known.square = value * value + RunSquares(runs);
        squares += frequency * frequency * known.square;
        add(known.row, frequency * value);
      } else {
        squares += frequency * frequency * (unknown_square_ + RunSquares(runs));
        const uint32_t row = added_terms_.at(term.hash);
        add(row, frequency * ValueOf(row));
      }
      for (const uint64_t run : runs) {
        const auto row = static_cast<uint32_t>(BucketOf(run).row);
        add(row, frequency * ValueOf(row));
      }
    }
    const float scale = squares == 0 ? 0 : 1 / std::sqrt(squares);
    for (size_t i = begin; i < rows.entries.size(); ++i) rows.entries[i].value *= scale;
    rows.begin.push_back(rows.entries.size());
  }
  return rows;
}

SparseRows LexicalVocabulary::Extend(const std::vector<std::string_view>& texts) {
  LexicalFeatureExtractor extractor;
  for (const std::string_view text : texts) {
    for (const LexicalTerm& term : extractor.Extract(text)) {
      if (Slot(term.hash)->hash != 0) continue;
      const auto row = static_cast<uint32_t>(rows());
      if (added_terms_.try_emplace(term.hash, row).second) {
        added_values_.push_back(std::sqrt(unknown_square_));
      }
      for (const uint64_t run : extractor.Runs(term)) {
        Bucket& bucket = buckets_[run >> shift_];
        if (bucket.row >= 0) continue;
        bucket.row = static_cast<int32_t>(rows());
        added_values_.push_back(std::sqrt(bucket.square));
      }
    }
  }
  return MakeRows(texts);
}

float LexicalVocabulary::ValueOf(uint32_t row) const {
  if (row < term_values_.size()) return term_values_[row];
  row -= static_cast<uint32_t>(term_values_.size());
  if (row < run_values_.size()) return run_values_[row];
  return added_values_[row - run_values_.size()];
}

std::vector<std::vector<uint32_t>> LexicalVocabulary::FindRuns(
    const std::vector<std::string_view>& texts) const {
  std::vector<std::vector<uint32_t>> runs(term_values_.size());
  LexicalFeatureExtractor extractor;
  for (const std::string_view text : texts) {
    for (const LexicalTerm& term : extractor.Extract(text)) {
      std::vector<uint32_t>& own = runs[Slot(term.hash)->row];
      if (!own.empty()) continue;
      for (const uint64_t run : extractor.Runs(term)) {
        own.push_back(static_cast<uint32_t>(BucketOf(run).row));
      }
    }
  }
  return runs;
}

void LexicalVocabulary::FoldRuns(const std::vector<std::vector<uint32_t>>& runs,
                                 std::vector<float>* weights) const {
  for (uint32_t row = 0; row < weights->size(); ++row) (*weights)[row] *= ValueOf(row);
  for (size_t term = 0; term < runs.size(); ++term) {
    for (const uint32_t run : runs[term]) (*weights)[term] += (*weights)[run];
  }
}

void LexicalVocabulary::FoldRuns(const std::vector<std::string_view>& texts,
                                 LinearModel* model) const {
  for (size_t row = 0; row < term_values_.size(); ++row) ScaleRow(term_values_[row], row, model);
  for (size_t run = 0; run < run_values_.size(); ++run) {
    ScaleRow(run_values_[run], term_values_.size() + run, model);
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

void LexicalVocabulary::Read(std::string_view text, LexicalFeatureExtractor* extractor,
                             GroupedRows* rows) const {
  // Slots are all over the table: they are asked for this many terms ahead.
  constexpr size_t kAhead = 12;
  uint32_t run_rows[LexicalFeatureExtractor::kMaxRuns + 1];
  rows->once.clear();
  rows->other.clear();
  float squares = 0;
  const absl::Span<const LexicalTerm> terms = extractor->Extract(text);
  for (size_t i = 0; i < terms.size(); ++i) {
    if (i + kAhead < terms.size()) __builtin_prefetch(&known_[SlotOf(terms[i + kAhead].hash)]);
    const LexicalTerm& term = terms[i];
    const Known& known = *Slot(term.hash);
    if (known.hash != 0) {
      if (term.count == 1) {
        squares += known.square;
        rows->once.push_back(known.row);
        continue;
      }
      const float frequency = Frequency(term.count);
      squares += frequency * frequency * known.square;
      rows->other.push_back({term.count, known.row});
      continue;
    }
    // Which runs are known is hard to predict, so that nothing branches on it.
    float square = unknown_square_;
    uint32_t* end = run_rows;
    for (const uint64_t run : extractor->Runs(term)) {
      const Bucket bucket = BucketOf(run);
      square += bucket.square;
      *end = static_cast<uint32_t>(bucket.row);
      end += bucket.row >= 0 ? 1 : 0;
    }
    if (!added_terms_.empty()) {
      if (const auto added = added_terms_.find(term.hash); added != added_terms_.end()) {
        *end++ = added->second;
      }
    }
    const float frequency = Frequency(term.count);
    squares += frequency * frequency * square;
    if (term.count == 1) {
      rows->once.insert(rows->once.end(), run_rows, end);
      continue;
    }
    for (const uint32_t* row = run_rows; row != end; ++row) {
      rows->other.push_back({term.count, *row});
    }
  }
  rows->scale = squares == 0 ? 0 : 1 / std::sqrt(squares);
}

std::vector<LexicalVocabulary::NamedRow> LexicalVocabulary::Name(std::string_view text,
                                                                 float* scale) const {
  std::vector<NamedRow> named;
  LexicalFeatureExtractor extractor;
  GroupedRows rows;
  Read(text, &extractor, &rows);
  *scale = rows.scale;
  std::vector<uint32_t> words;
  for (const LexicalTerm& term : extractor.Extract(text, &words)) {
    const NamedRow::Kind kind = term.length > 0 ? NamedRow::kWord : NamedRow::kPair;
    const Known& known = *Slot(term.hash);
    if (known.hash != 0) {
      named.push_back({extractor.NameOf(term, words), kind, term.count, known.row});
      continue;
    }
    const std::vector<std::string> names = extractor.RunNames(term);
    const absl::Span<const uint64_t> runs = extractor.Runs(term);
    for (size_t i = 0; i < runs.size(); ++i) {
      const int32_t row = BucketOf(runs[i]).row;
      if (row < 0) continue;
      named.push_back({names[i], NamedRow::kRun, term.count, static_cast<uint32_t>(row)});
    }
    if (const auto added = added_terms_.find(term.hash); added != added_terms_.end()) {
      named.push_back({extractor.NameOf(term, words), kind, term.count, added->second});
    }
  }
  return named;
}

float LexicalVocabulary::RunSquares(absl::Span<const uint64_t> runs) const {
  float squares = 0;
  for (const uint64_t run : runs) squares += BucketOf(run).square;
  return squares;
}

const LexicalVocabulary::Known* LexicalVocabulary::Slot(uint64_t hash) const {
  const size_t mask = known_.size() - 1;
  size_t slot = SlotOf(hash);
  while (known_[slot].hash != hash && known_[slot].hash != 0) slot = (slot + 1) & mask;
  return &known_[slot];
}

LexicalVocabulary::Known* LexicalVocabulary::Slot(uint64_t hash) {
  return const_cast<Known*>(std::as_const(*this).Slot(hash));
}

}  // namespace octogate::router
