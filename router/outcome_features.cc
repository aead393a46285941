#include "router/outcome_features.h"

#include <algorithm>
#include <cmath>

namespace octogate::router {
namespace {

constexpr int kHashBits = 16;
constexpr size_t kWords = size_t{1} << kHashBits;
constexpr size_t kBins = 16;  // Of each property.
constexpr size_t kProperties = 3;
constexpr float kPropertyValue = 0.3F;

size_t Bucket(uint64_t hash) { return (hash * 0x9E3779B97F4A7C15ULL) >> (64 - kHashBits); }

size_t LogBin(size_t count) {
  size_t bin = 0;
  for (; count > 0 && bin + 1 < kBins; count /= 2) ++bin;
  return bin;
}

}  // namespace

size_t OutcomeFeatures::words() const { return kWords; }
size_t OutcomeFeatures::size() const { return kWords + kProperties * kBins; }

void OutcomeFeatures::Fit(absl::Span<const std::string_view> texts) {
  documents_.assign(size(), 0);
  LexicalFeatureExtractor extractor;
  std::vector<size_t> buckets;
  for (const std::string_view text : texts) {
    buckets.clear();
    for (const LexicalTerm& term : extractor.Extract(text)) buckets.push_back(Bucket(term.hash));
    std::sort(buckets.begin(), buckets.end());
    buckets.erase(std::unique(buckets.begin(), buckets.end()), buckets.end());
    for (const size_t bucket : buckets) ++documents_[bucket];
  }
  weights_.assign(kWords, 0);
  for (size_t bucket = 0; bucket < kWords; ++bucket) {
    if (documents_[bucket] < 2) continue;
    weights_[bucket] = static_cast<float>(
        std::log((1.0 + static_cast<double>(texts.size())) / (1.0 + documents_[bucket])) + 1);
  }
}

void OutcomeFeatures::Read(std::string_view text, LexicalFeatureExtractor* extractor,
                           std::vector<SparseRows::Entry>* row) const {
  const size_t begin = row->size();
  float square = 0;
  for (const LexicalTerm& term : extractor->Extract(text)) {
    const size_t bucket = Bucket(term.hash);
    const float weight = weights_[bucket];
    if (weight == 0) continue;
    const float value = weight * (1 + std::log(static_cast<float>(term.count)));
    row->push_back({static_cast<uint32_t>(bucket), value});
  }
  std::sort(row->begin() + static_cast<std::ptrdiff_t>(begin), row->end(),
            [](const auto& a, const auto& b) { return a.feature < b.feature; });
  // Terms that share a bucket become one.
  size_t end = begin;
  for (size_t i = begin; i < row->size(); ++i) {
    if (end > begin && (*row)[end - 1].feature == (*row)[i].feature) {
      (*row)[end - 1].value += (*row)[i].value;
    } else {
      (*row)[end++] = (*row)[i];
    }
  }
  row->resize(end);
  for (size_t i = begin; i < end; ++i) square += (*row)[i].value * (*row)[i].value;
  const float scale = square > 0 ? 1 / std::sqrt(square) : 0;
  for (size_t i = begin; i < end; ++i) (*row)[i].value *= scale;
  const auto digits = static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }));
  const auto lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  const size_t bins[kProperties] = {LogBin(text.size()), std::min(lines, kBins - 1),
                                    LogBin(digits * 256 / std::max<size_t>(1, text.size()))};
  for (size_t p = 0; p < kProperties; ++p) {
    row->push_back({static_cast<uint32_t>(kWords + p * kBins + bins[p]), kPropertyValue});
  }
}

}  // namespace octogate::router
