#include "gateway/token_learning.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// Fewer examples than this teach little.
constexpr int kFewExamples = 8;

absl::StatusOr<v1::Node*> FindNode(const std::string& name, v1::Graph* graph) {
  for (v1::Node& node : *graph->mutable_spec()->mutable_nodes()) {
    if (node.name() == name) return &node;
  }
  return absl::NotFoundError(absl::StrCat("the graph has no node ", Quoted(name)));
}

bool HasMember(const v1::RouterNode& router, const std::string& name) {
  return std::find(router.members().begin(), router.members().end(), name) !=
         router.members().end();
}

absl::Status MakeMember(const std::string& node, const std::string& router_name, v1::Graph* graph) {
  OCTOGATE_ASSIGN_OR_RETURN(v1::Node* const router, FindNode(router_name, graph));
  if (!router->has_router()) {
    return absl::InvalidArgumentError(
        absl::StrCat("router: the node ", Quoted(router_name), " is no router"));
  }
  if (!HasMember(router->router(), node)) router->mutable_router()->add_members(node);
  return absl::OkStatus();
}

// Whether a router chooses the node, or has it for what belongs to no member, by a head that learns
// from examples.
absl::Status CheckLearnt(const std::string& name, const v1::Graph& graph) {
  bool chosen = false;
  for (const v1::Node& node : graph.spec().nodes()) {
    const v1::RouterNode& router = node.router();
    if (!HasMember(router, name) && router.fallback() != name) continue;
    chosen = true;
    for (const v1::Head& head : router.heads()) {
      if (head.has_lexical() || head.has_encoder() || head.causal().learned_rows()) {
        return absl::OkStatus();
      }
    }
  }
  if (!chosen) {
    return absl::FailedPreconditionError(
        absl::StrCat("the node ", Quoted(name),
                     " is neither a member nor the fallback of a router; name a router whose "
                     "member it is to be"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("no router of the node ", Quoted(name),
                   " has a head that could learn: a lexical or encoder head, or a causal head with "
                   "learnedRows"));
}

}  // namespace

absl::StatusOr<int> AddLearnedExamples(const std::string& name,
                                       const std::vector<std::string>& examples, v1::Graph* graph) {
  OCTOGATE_ASSIGN_OR_RETURN(v1::Node* const node, FindNode(name, graph));
  OCTOGATE_RETURN_IF_ERROR(CheckLearnt(name, *graph));
  absl::flat_hash_set<std::string> known(node->examples().begin(), node->examples().end());
  known.insert(node->learned_examples().begin(), node->learned_examples().end());
  int learned = 0;
  for (const std::string& example : examples) {
    if (!known.insert(example).second) continue;
    node->add_learned_examples(example);
    ++learned;
  }
  return learned;
}

absl::StatusOr<v1::LearnTokenResponse> LearnToken(const v1::LearnTokenRequest& request,
                                                  absl::Time deadline, GraphManager* graphs) {
  const absl::Time start = absl::Now();
  v1::LearnTokenResponse response;
  int examples = 0;
  const auto learn = [&](v1::Graph* graph) -> absl::Status {
    OCTOGATE_ASSIGN_OR_RETURN(v1::Node* const node, FindNode(request.node(), graph));
    if (!request.router().empty()) {
      OCTOGATE_RETURN_IF_ERROR(MakeMember(request.node(), request.router(), graph));
    }
    OCTOGATE_ASSIGN_OR_RETURN(
        const int learned,
        AddLearnedExamples(request.node(), {request.examples().begin(), request.examples().end()},
                           graph));
    response.set_learned(learned);
    response.set_learned_total(node->learned_examples_size());
    examples = node->examples_size() + node->learned_examples_size();
    return absl::OkStatus();
  };
  OCTOGATE_ASSIGN_OR_RETURN(v1::ApplyGraphResponse applied,
                            graphs->Edit(learn, absl::StrCat("tokens learn ", request.node()),
                                         request.dry_run(), request.expected_version(), deadline));
  response.set_version(applied.version());
  response.mutable_changes()->Swap(applied.mutable_changes());
  response.mutable_warnings()->Swap(applied.mutable_warnings());
  if (examples < kFewExamples) {
    response.add_warnings(absl::StrCat("the node ", Quoted(request.node()), " has ", examples,
                                       " examples; from 8 to 64 a token is learned well"));
  }
  response.set_duration_us(absl::ToInt64Microseconds(absl::Now() - start));
  return response;
}

absl::StatusOr<v1::ForgetTokenResponse> ForgetToken(const v1::ForgetTokenRequest& request,
                                                    absl::Time deadline, GraphManager* graphs) {
  v1::ForgetTokenResponse response;
  const auto forget = [&](v1::Graph* graph) -> absl::Status {
    OCTOGATE_ASSIGN_OR_RETURN(v1::Node* const node, FindNode(request.node(), graph));
    response.set_forgotten(node->learned_examples_size());
    node->clear_learned_examples();
    return absl::OkStatus();
  };
  OCTOGATE_ASSIGN_OR_RETURN(v1::ApplyGraphResponse applied,
                            graphs->Edit(forget, absl::StrCat("tokens forget ", request.node()),
                                         request.dry_run(), request.expected_version(), deadline));
  response.set_version(applied.version());
  response.mutable_changes()->Swap(applied.mutable_changes());
  response.mutable_warnings()->Swap(applied.mutable_warnings());
  return response;
}

}  // namespace octogate::gateway
