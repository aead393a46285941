// What a gateway keeps of the queries of one version of the graph. It goes with the version: what
// another version, a learned token or promoted feedback decides is never mixed with it.
#ifndef OCTOGATE_GATEWAY_CACHE_QUERY_CACHES_H_
#define OCTOGATE_GATEWAY_CACHE_QUERY_CACHES_H_

#include <atomic>
#include <memory>
#include <utility>

#include "gateway/cache/answer_cache.h"
#include "gateway/cache/decision_cache.h"
#include "gateway/cache/flights.h"
#include "gateway/cache/shared_answers.h"
#include "gateway/cache/shared_decisions.h"
#include "octogate/v1/graph.pb.h"
#include "router/cache_validation.h"

namespace octogate::gateway {

// Thread safety: as of its parts.
struct QueryCaches {
  // Look-ups by meaning at the same time, which ask encoders and routers before admission.
  static constexpr int kMaxByMeaning = 64;

  explicit QueryCaches(const v1::GraphSpec& spec,
                       std::unique_ptr<SharedAnswers> answers_of_all = nullptr,
                       std::unique_ptr<SharedDecisions> decisions_of_all = nullptr)
      : decisions(static_cast<size_t>(router::MaxCachedDecisions(spec))),
        answers(spec.cache().answers()),
        shared_answers(std::move(answers_of_all)),
        shared_decisions(std::move(decisions_of_all)) {}

  DecisionCache decisions;
  AnswerCache answers;
  // Null: this gateway's are its own.
  const std::unique_ptr<SharedAnswers> shared_answers;
  const std::unique_ptr<SharedDecisions> shared_decisions;
  std::atomic<int> by_meaning{0};  // such look-ups under way
  const std::shared_ptr<AnswerFlights> answer_flights = std::make_shared<AnswerFlights>();
  const std::shared_ptr<DecisionFlights> decision_flights = std::make_shared<DecisionFlights>();
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_QUERY_CACHES_H_
