// Texts as sparse vectors, for what is learned of queries and the members that answered them.
#ifndef OCTOGATE_ROUTER_OUTCOME_FEATURES_H_
#define OCTOGATE_ROUTER_OUTCOME_FEATURES_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "router/lexical_features.h"
#include "router/softmax_regression.h"

namespace octogate::router {

// Words and pairs of words, hashed, as TF-IDF of unit length, and the form of the text: its length,
// its lines, and how much of it are digits, each as one of a few bins.
//
// Thread-safe once fitted; the extractors passed in are the caller's.
class OutcomeFeatures {
 public:
  // Learns how frequent terms are. What only one text has is left out: it says nothing of others.
  void Fit(absl::Span<const std::string_view> texts);

  // Appends the vector of `text`; every feature comes once.
  void Read(std::string_view text, LexicalFeatureExtractor* extractor,
            std::vector<SparseRows::Entry>* row) const;

  // Number of features; those of words and pairs are below words().
  size_t size() const;
  size_t words() const;
  // Texts that have the feature.
  int documents(size_t feature) const { return documents_[feature]; }

 private:
  std::vector<int> documents_;
  std::vector<float> weights_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_OUTCOME_FEATURES_H_
