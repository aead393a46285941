#include "workers/engine/step_probe.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "workers/model/rope.h"

namespace octogate::workers {

StepCost MeasureTransformer(Transformer& transformer, kernels::KvCache& cache,
                            StepProbeLimits limits, int ranked, absl::Duration time) {
  const kernels::KvCacheShape& shape = cache.shape();
  const ModelConfig& config = transformer.config();
  const int64_t positions = int64_t{shape.pages} * shape.page_size;
  limits.max_context = static_cast<int>(std::min<int64_t>(limits.max_context, positions));
  // Each sequence writes to pages of its own.
  limits.max_sequences = std::min(limits.max_sequences, shape.pages);
  ranked = std::min(ranked, config.vocab_size);

  std::vector<int32_t> pages(static_cast<size_t>(shape.pages));
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<int32_t> ids;
  std::vector<StepSequence> sequences;
  std::vector<int32_t> logit_rows;
  Transformer::LargestLogits largest;
  const auto run = [&](const StepProbe& probe) {
    ids.clear();
    sequences.clear();
    logit_rows.clear();
    for (int i = 0; i < probe.sequences; ++i) {
      StepSequence sequence;
      sequence.row_count = probe.rows;
      sequence.first_position = probe.context;
      sequence.pages = std::span<const int32_t>(pages).subspan(static_cast<size_t>(i));
      sequence.rope_range = RopeRangeForLength(config, probe.context + probe.rows);
      sequences.push_back(sequence);
      for (int row = 0; row < probe.rows; ++row) {
        ids.push_back(static_cast<int32_t>(ids.size()) % config.vocab_size);
      }
      logit_rows.push_back(static_cast<int32_t>(ids.size()) - 1);
    }
    const auto begin = std::chrono::steady_clock::now();
    transformer.Forward({.ids = ids, .sequences = sequences, .logit_rows = logit_rows}, cache, {},
                        {});
    transformer.RankLogits(ranked, largest);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  return MeasureStepCost(limits, absl::ToDoubleSeconds(time), transformer.warm_steps(), run);
}

}  // namespace octogate::workers
