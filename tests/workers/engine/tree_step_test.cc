// Trees of drafts through whole models: a verify pass gives the logits that decoding each path
// gives, and leaves a cache from which decoding goes on as if nothing else had been tried.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/transformer.h"

namespace octogate::workers {
namespace {

constexpr int kPageSize = 7;
constexpr int kMaxLength = 320;

// One model with a cache of two sequences.
class Model {
 public:
  Model(std::shared_ptr<const Checkpoint> checkpoint, int threads, kernels::DType dtype)
      : backend_(kernels::MakeCpuBackend({.threads = threads})) {
    auto transformer = Transformer::Load(std::move(checkpoint), backend_.get(),
                                         {.max_rows = kMaxLength, .max_logit_rows = kMaxLength});
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    transformer_ = *std::move(transformer);
    const int pages = kMaxLength / kPageSize + 1;
    auto cache = transformer_->CreateKvCache(2 * pages, kPageSize, dtype);
    EXPECT_TRUE(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
    for (int32_t i = 0; i < pages; ++i) {
      pages_[0].push_back(2 * i);
      pages_[1].push_back(2 * (pages - 1 - i) + 1);
    }
  }

  // Logits of all rows, which are those of the sequences one behind the other.
  std::vector<float> Forward(const std::vector<int32_t>& ids,
                             const std::vector<StepSequence>& sequences) {
    std::vector<int32_t> rows(ids.size());
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
    std::vector<float> logits(ids.size() * vocab_size());
    transformer_->Forward({.ids = ids, .sequences = sequences, .logit_rows = rows}, *cache_, logits,
                          {});
    return logits;
  }

  void KeepPath(int sequence, int first_position, const std::vector<int32_t>& path) {
    transformer_->KeepPath(*cache_, pages_[sequence], first_position, path);
  }

  const std::vector<int32_t>& pages(int sequence) const { return pages_[sequence]; }
  size_t vocab_size() const { return static_cast<size_t>(transformer_->config().vocab_size); }

 private:
  std::unique_ptr<kernels::Backend> backend_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<kernels::KvCache> cache_;
  std::vector<int32_t> pages_[2];
};

struct Tree {
  std::vector<int32_t> ids;
  std::vector<kernels::AncestorMask> masks;
  std::vector<std::vector<int32_t>> paths;
};

Tree RandomTree(std::mt19937& random, int rows, int vocab_size) {
  Tree tree{.ids = RandomIds(random, rows, vocab_size)};
  for (int r = 0; r < rows; ++r) {
    // The first row is the token sampled last; the drafts hang below it.
    kernels::AncestorMask mask;
    std::vector<int32_t> path;
    if (r > 0) {
      const size_t parent = random() % static_cast<uint32_t>(r);
      mask = tree.masks[parent];
      path = tree.paths[parent];
    }
    mask.words[r / 64] |= uint64_t{1} << (r % 64);
    path.push_back(r);
    tree.masks.push_back(mask);
    tree.paths.push_back(path);
  }
  return tree;
}

::testing::AssertionResult SameRow(const std::vector<float>& a, size_t row_a,
                                   const std::vector<float>& b, size_t row_b, size_t width) {
  if (std::memcmp(a.data() + row_a * width, b.data() + row_b * width, width * sizeof(float)) == 0) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << "row " << row_a << " differs from row " << row_b;
}

class TreeStepTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TreeStepTest, AVerifyPassGivesTheLogitsOfDecodingEachPath) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  const auto checkpoint = OpenCheckpoint(FixturePath(GetParam()));
  ASSERT_NE(checkpoint, nullptr);
  const ModelConfig& config = checkpoint->config();
  const size_t width = static_cast<size_t>(config.vocab_size);
  constexpr kernels::DType kTypes[] = {kernels::DType::kF32, kernels::DType::kBF16,
                                       kernels::DType::kF8E4M3, kernels::DType::kI8};
  const kernels::DType dtype = kTypes[below(4)];
  Model model(checkpoint, 2, dtype);
  Model plain(checkpoint, 1, dtype);
  const int longest = std::min(config.max_position_embeddings, kMaxLength);
  for (int trial = 0; trial < 3; ++trial) {
    const int rows = 1 + below(trial == 0 ? std::min(kernels::kMaxTreeRows, longest / 2) : 40);
    const int past = 1 + below(longest - rows - 1);
    const RopeRange range = RopeRangeForLength(config, past + rows + 1);
    const auto prompt = RandomIds(random, past, config.vocab_size);
    const Tree tree = RandomTree(random, rows, config.vocab_size);
    const auto neighbour = RandomIds(random, 1 + below(20), config.vocab_size);
    model.Forward(prompt, {{.row_count = past, .pages = model.pages(0), .rope_range = range}});
    plain.Forward(prompt, {{.row_count = past, .pages = plain.pages(0), .rope_range = range}});

    // The tree beside a prompt of another sequence.
    std::vector<int32_t> ids = tree.ids;
    ids.insert(ids.end(), neighbour.begin(), neighbour.end());
    const std::vector<float> verified =
        model.Forward(ids, {{.row_count = rows,
                             .first_position = past,
                             .pages = model.pages(0),
                             .ancestors = tree.masks,
                             .rope_range = range},
                            {.row_count = static_cast<int>(neighbour.size()),
                             .pages = model.pages(1),
                             .rope_range = range}});

    const auto ids_of = [&](const std::vector<int32_t>& path) {
      std::vector<int32_t> result;
      for (const int32_t row : path) result.push_back(tree.ids[static_cast<size_t>(row)]);
      return result;
    };
    for (int sample = 0; sample < 12; ++sample) {
      const auto& path = tree.paths[static_cast<size_t>(below(rows))];
      const auto depth = path.size() - 1;
      const std::vector<float> decoded =
          plain.Forward(ids_of(path), {{.row_count = static_cast<int>(path.size()),
                                        .first_position = past,
                                        .pages = plain.pages(0),
                                        .rope_range = range}});
      for (size_t i = 0; i <= depth; ++i) {
        ASSERT_TRUE(SameRow(verified, static_cast<size_t>(path[i]), decoded, i, width))
            << "at depth " << i << " of a tree of " << rows << " rows behind " << past;
      }
    }

    // Accepting a path; the plain model has to hold the same one.
    const auto& path = tree.paths[static_cast<size_t>(below(rows))];
    model.KeepPath(0, past, path);
    plain.Forward(ids_of(path), {{.row_count = static_cast<int>(path.size()),
                                  .first_position = past,
                                  .pages = plain.pages(0),
                                  .rope_range = range}});
    const auto next = RandomIds(random, 1, config.vocab_size);
    StepSequence one{.row_count = 1,
                     .first_position = past + static_cast<int>(path.size()),
                     .pages = model.pages(0),
                     .rope_range = range};
    const std::vector<float> after_tree = model.Forward(next, {one});
    one.pages = plain.pages(0);
    ASSERT_TRUE(SameRow(after_tree, 0, plain.Forward(next, {one}), 0, width));
  }
}

std::vector<std::string> Fixtures() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath(""))) {
    if (std::filesystem::exists(entry.path() / "expected.json")) {
      names.push_back(entry.path().filename());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, TreeStepTest, ::testing::ValuesIn(Fixtures()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace octogate::workers
