// Drafters for tests: some know the answer, some are wrong, some break the rules.
#ifndef OCTOGATE_TESTS_WORKERS_ENGINE_TEST_DRAFTERS_H_
#define OCTOGATE_TESTS_WORKERS_ENGINE_TEST_DRAFTERS_H_

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "workers/speculation/drafter.h"

namespace octogate::workers {

// Prompts with their answers, as plain decoding gives them.
using KnownSequences = std::vector<std::vector<int32_t>>;

enum class Drafting {
  kOracle,     // a chain of what follows
  kFull,       // as many nodes as there may be, with what follows somewhere among them
  kRandom,     // a random tree of random size
  kWrong,      // never what follows
  kMalformed,  // a tree that breaks a rule
  kEmpty,      // nothing
  kMixed,      // each time another one
};

class TestDrafter : public Drafter {
 public:
  // What its sequences have been told, for tests to look at after the engine is gone.
  struct Record {
    std::vector<std::string> scopes;
    int proposals = 0;
    int64_t rows = 0;
    int64_t kept_rows = 0;
    // Kept rows whose first candidate came next.
    int64_t first_candidates = 0;
  };

  TestDrafter(std::string name, Drafting drafting, int vocab_size, uint32_t seed,
              std::shared_ptr<const KnownSequences> known, std::shared_ptr<Record> record = nullptr)
      : name_(std::move(name)),
        drafting_(drafting),
        vocab_size_(vocab_size),
        random_(seed),
        known_(std::move(known)),
        record_(record != nullptr ? std::move(record) : std::make_shared<Record>()) {}

  std::string_view name() const override { return name_; }
  int candidates() const override { return 3; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override {
    record_->scopes.emplace_back(scope);
    return std::make_unique<Sequence>(this);
  }
  uint64_t bytes() const override { return 0; }

 private:
  class Sequence : public SequenceDrafter {
   public:
    explicit Sequence(TestDrafter* drafter) : drafter_(drafter) {}

    void Append(std::span<const int32_t> tokens) override {
      chosen_from_ = tokens_.size();
      tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    }

    void Observe(std::span<const ComputedRow> rows) override {
      ASSERT_GT(chosen_from_, 0u) << "what was chosen comes first";
      EXPECT_EQ(rows[0].previous, chosen_from_ > 1 ? tokens_[chosen_from_ - 2] : -1);
      EXPECT_TRUE(rows[0].kept);
      size_t place = chosen_from_ - 1;  // of the next kept row in the sequence
      for (const ComputedRow& row : rows) {
        EXPECT_LE(row.candidates.size(), 3u);
        for (const int32_t id : row.candidates) {
          EXPECT_GE(id, 0);
          EXPECT_LT(id, drafter_->vocab_size_);
        }
        ++drafter_->record_->rows;
        if (!row.kept) continue;
        ++drafter_->record_->kept_rows;
        ASSERT_LT(place, tokens_.size());
        EXPECT_EQ(row.token, tokens_[place]);
        if (place >= chosen_from_) {
          EXPECT_EQ(row.previous, tokens_[place - 1]);
        }
        ++place;
        if (place < tokens_.size() && !row.candidates.empty() &&
            row.candidates[0] == tokens_[place]) {
          ++drafter_->record_->first_candidates;
        }
      }
      chosen_from_ = 0;
    }

    void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
      EXPECT_TRUE(tree.empty());
      EXPECT_GE(max_depth, 1);
      ++drafter_->record_->proposals;
      drafter_->Propose(tokens_, max_nodes, max_depth, tree);
    }

   private:
    TestDrafter* const drafter_;
    std::vector<int32_t> tokens_;
    size_t chosen_from_ = 0;  // the last step's tokens begin there, until its rows are observed
  };

  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }
  int32_t AnyToken() { return Below(vocab_size_); }

  // What follows, as far as it is known.
  std::vector<int32_t> Next(const std::vector<int32_t>& tokens, int count) const {
    for (const std::vector<int32_t>& known : *known_) {
      if (known.size() < tokens.size() ||
          !std::equal(tokens.begin(), tokens.end(), known.begin())) {
        continue;
      }
      const auto begin = known.begin() + static_cast<ptrdiff_t>(tokens.size());
      return {begin, begin + std::min<ptrdiff_t>(count, known.end() - begin)};
    }
    return {};
  }

  void AddRandom(int count, int max_depth, DraftTree& tree) {
    for (int i = 0; i < 4 * count && tree.size() < count; ++i) {
      const int parent = Below(tree.size() + 1) - 1;
      if (parent >= 0 && tree.nodes[static_cast<size_t>(parent)].depth >= max_depth) continue;
      tree.Add(parent, AnyToken(), static_cast<float>(Below(100)) / 100, 1);
    }
  }

  void Propose(const std::vector<int32_t>& tokens, int max_nodes, int max_depth, DraftTree& tree) {
    Drafting drafting = drafting_;
    if (drafting == Drafting::kMixed) drafting = static_cast<Drafting>(Below(6));
    const auto next = Next(tokens, std::min(max_nodes, max_depth));
    switch (drafting) {
      case Drafting::kOracle:
      case Drafting::kFull: {
        if (drafting == Drafting::kFull && Below(2) == 0) AddRandom(max_nodes / 2, max_depth, tree);
        int parent = -1;
        for (const int32_t token : next) {
          if (tree.size() >= max_nodes && tree.Child(parent, token) < 0) break;
          parent = tree.Add(parent, token, 0.9f, 1);
        }
        if (drafting == Drafting::kFull) AddRandom(max_nodes, max_depth, tree);
        break;
      }
      case Drafting::kRandom:
        AddRandom(1 + Below(max_nodes), max_depth, tree);
        break;
      case Drafting::kWrong: {
        int parent = -1;
        for (const int32_t token : next) {
          parent = tree.Add(parent, (token + 1) % vocab_size_, 0.9f, 1);
        }
        break;
      }
      case Drafting::kMalformed:
        AddRandom(3, max_depth, tree);
        switch (Below(7)) {
          case 0:
            tree.nodes[0].parent = 0;
            break;
          case 1:
            tree.nodes[0].token = vocab_size_;
            break;
          case 2:
            tree.nodes.push_back(tree.nodes[0]);
            break;
          case 3:
            tree.nodes[0].probability = NAN;
            break;
          case 4:
            tree.nodes[0].depth = 2;
            break;
          case 5:
            while (tree.size() <= kMaxDraftNodes) tree.Add(tree.size() - 1, 1, 1, 1);
            break;
          default:
            tree.nodes[0].token = -1;
            break;
        }
        break;
      case Drafting::kEmpty:
      case Drafting::kMixed:
        break;
    }
  }

  const std::string name_;
  const Drafting drafting_;
  const int vocab_size_;
  std::mt19937 random_;
  const std::shared_ptr<const KnownSequences> known_;
  const std::shared_ptr<Record> record_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_ENGINE_TEST_DRAFTERS_H_
