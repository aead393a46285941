// What the engine's speculation gains at most, and costs at least: tokens per second beside plain
// decoding, interleaved in the same run, with a drafter that knows the answer and with one that is
// always wrong and sure of itself.
//
//   speculation_cost_bench [--json]
//
// The model is a random Llama of about 400 MB in BF16 as in decode_bench, on two threads. These are
// no drafters that anybody could use: the first shows what verifying costs, the second what drafts
// cost that are of no use.
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/bench/engine_speed.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/report.h"
#include "workers/engine/engine.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {
namespace {

using workers::DraftTree;
using workers::Engine;

constexpr int kRepetitions = 5;  // the median counts
constexpr int kPromptTokens = 8;
constexpr int kAnswerTokens = 48;
constexpr int kDraftNodes = 16;
constexpr int kSequences = 16;

enum class Kind { kListener, kOracle, kUseless };

// Sequences that have ended; the listener writes them down.
using Sequences = std::vector<std::vector<int32_t>>;

class BenchDrafter : public workers::Drafter {
 public:
  BenchDrafter(Kind kind, Sequences* sequences) : kind_(kind), sequences_(sequences) {}

  std::string_view name() const override { return "bench"; }
  // As Token Recycling wants.
  int candidates() const override { return kind_ == Kind::kListener ? 0 : 8; }
  std::unique_ptr<workers::SequenceDrafter> Begin(std::string_view /*scope*/) override {
    return std::make_unique<Sequence>(kind_, sequences_);
  }
  uint64_t bytes() const override { return 0; }

 private:
  class Sequence : public workers::SequenceDrafter {
   public:
    Sequence(Kind kind, Sequences* sequences) : kind_(kind), sequences_(sequences) {}
    ~Sequence() override {
      if (kind_ == Kind::kListener) sequences_->push_back(tokens_);
    }
    void Append(std::span<const int32_t> tokens) override {
      tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    }
    void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
      if (kind_ == Kind::kListener) return;
      for (const std::vector<int32_t>& known : *sequences_) {
        if (known.size() <= tokens_.size()) continue;
        if (!std::equal(tokens_.begin(), tokens_.end(), known.begin())) continue;
        int parent = -1;
        for (size_t i = tokens_.size(); i < known.size(); ++i) {
          if (tree.size() >= std::min(max_nodes, max_depth)) break;
          const int32_t wrong = kind_ == Kind::kUseless ? 1 : 0;
          parent = tree.Add(parent, known[i] ^ wrong, 0.9f, 1);
        }
        return;
      }
    }

   private:
    const Kind kind_;
    Sequences* const sequences_;
    std::vector<int32_t> tokens_;
  };

  const Kind kind_;
  Sequences* const sequences_;
};

std::unique_ptr<Engine> Create(const std::shared_ptr<const workers::Checkpoint>& checkpoint,
                               std::unique_ptr<workers::Drafter> drafter) {
  std::vector<std::unique_ptr<workers::Drafter>> drafters;
  workers::EngineOptions options{.max_sequences = kSequences,
                                 .max_rows_per_step = 256,
                                 .kv_tokens = kSequences * 256,
                                 .share_prefixes = false,
                                 .kv_dtype = kernels::DType::kF16};
  if (drafter != nullptr) {
    drafters.push_back(std::move(drafter));
    options.max_draft_nodes = kDraftNodes;
    options.step_cost_time = absl::Seconds(3);
  }
  auto engine = Engine::Create(checkpoint, nullptr,
                               kernels::MakeCpuBackend({.threads = 2, .pin_threads = true}),
                               options, std::move(drafters));
  if (!engine.ok()) {
    std::cerr << engine.status() << '\n';
    std::exit(1);
  }
  return *std::move(engine);
}

int Main(int argc, char** argv) {
  Report report("speculation_cost", argc, argv);
  const TemporaryFolder folder;
  const RandomCheckpoint shape;
  const auto opened = OpenRandomCheckpoint(shape, folder.path());
  if (!opened.ok()) {
    std::cerr << opened.status() << '\n';
    return 1;
  }
  const auto& checkpoint = *opened;
  Sequences sequences;
  {
    const auto listener =
        Create(checkpoint, std::make_unique<BenchDrafter>(Kind::kListener, &sequences));
    MeasureEngine(*listener, kSequences, kPromptTokens, kAnswerTokens, 1);
  }
  const auto plain = Create(checkpoint, nullptr);
  const auto oracle = Create(checkpoint, std::make_unique<BenchDrafter>(Kind::kOracle, &sequences));
  for (const auto& point : oracle->step_cost().rows.points()) {
    std::cerr << "rows " << point.x << ": " << point.seconds * 1e3 << " ms\n";
  }
  for (const int batch : {1, 4, 16}) {
    // What is useless has to be found out anew.
    const auto useless =
        Create(checkpoint, std::make_unique<BenchDrafter>(Kind::kUseless, &sequences));
    std::vector<double> all[3];
    Engine* const engines[3] = {plain.get(), oracle.get(), useless.get()};
    for (int repetition = 0; repetition < kRepetitions; ++repetition) {
      for (int i = 0; i < 3; ++i) {
        const double speed =
            MeasureEngine(*engines[i], batch, kPromptTokens, kAnswerTokens, 1).tokens_per_second;
        std::cerr << "batch " << batch << ": " << speed << '\n';
        all[i].push_back(speed);
      }
    }
    double speeds[3];
    for (int i = 0; i < 3; ++i) {
      std::sort(all[i].begin(), all[i].end());
      speeds[i] = all[i][kRepetitions / 2];
    }
    const std::string beside = absl::StrCat("plain, ", speeds[0], " tokens/s");
    report.Add({.name = absl::StrCat("batch ", batch, ": oracle"),
                .value = speeds[1],
                .unit = "tokens/s",
                .beside = beside,
                .ratio = speeds[1] / speeds[0],
                .aim = AtLeast(1, Aim::kRatio)});
    report.Add({.name = absl::StrCat("batch ", batch, ": useless"),
                .value = speeds[2],
                .unit = "tokens/s",
                .beside = beside,
                .ratio = speeds[2] / speeds[0],
                .aim = AtLeast(0.98, Aim::kRatio)});
    const workers::EngineStats stats = useless->stats();
    std::cerr << "useless: " << stats.speculation->tokens.drafted << " drafted rows, "
              << absl::FormatDuration(stats.speculation->draft) << " drafting\n";
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
