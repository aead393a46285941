#include "router/cache_validation.h"

namespace octogate::router {

std::vector<GraphProblem> CheckCache(const v1::Graph& graph) {
  std::vector<GraphProblem> problems;
  const v1::AnswerCache& answers = graph.spec().cache().answers();
  if (!answers.encoder().empty() && answers.threshold() == 0) {
    problems.push_back(
        {"spec.cache.answers",
         "'encoder' without 'threshold': say how alike two queries must be to have the same "
         "answer, e.g. 'threshold: 0.95'"});
  }
  if (answers.encoder().empty() && answers.threshold() != 0) {
    problems.push_back({"spec.cache.answers.threshold",
                        "'threshold' goes with 'encoder' only: without one an answer is given to "
                        "the same words alone; remove it, or name a model of sentence vectors"});
  }
  const v1::DecisionCache& decisions = graph.spec().cache().decisions();
  if (decisions.shared() && MaxCachedDecisions(graph.spec()) == 0) {
    problems.push_back({"spec.cache.decisions.shared",
                        "'maxEntries: 0' keeps no decisions that could be shared; leave it out, or "
                        "remove 'shared'"});
  }
  return problems;
}

int32_t MaxCachedDecisions(const v1::GraphSpec& spec) {
  const v1::DecisionCache& decisions = spec.cache().decisions();
  return decisions.has_max_entries() ? decisions.max_entries() : kDefaultMaxDecisions;
}

}  // namespace octogate::router
