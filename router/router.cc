#include "router/router.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"
#include "router/routing_step.h"

namespace octogate::router {
namespace {

using LexicalHeads = absl::flat_hash_map<std::string, std::shared_ptr<const LexicalHead>>;

// Names what a lexical head was trained from: equal names, equal heads.
std::string Fingerprint(const v1::LexicalHead& settings, const LexicalExamples& examples) {
  std::string bytes = absl::StrCat(settings.hash_bits(), ",", settings.epochs(), ",",
                                   settings.seed(), ",", examples.classes.size());
  const auto append = [&bytes](const std::vector<std::string>& texts) {
    absl::StrAppend(&bytes, ";", texts.size());
    for (const std::string& text : texts) absl::StrAppend(&bytes, ",", text.size(), ":", text);
  };
  for (const std::vector<std::string>& texts : examples.classes) append(texts);
  append(examples.none);
  return Sha256Hex(bytes);
}

class Builder {
 public:
  Builder(const RoutingSnapshot& snapshot, const FindCausalModel& find, absl::Time deadline,
          LexicalHeads known, LexicalHeads* used)
      : snapshot_(snapshot),
        find_(find),
        deadline_(deadline),
        known_(std::move(known)),
        used_(*used) {}

  absl::StatusOr<std::shared_ptr<const RouterRouting>> Build(const v1::Node& node) {
    auto routing = std::make_shared<RouterRouting>();
    routing->node = &node;
    for (const std::string& name : node.router().members()) {
      OCTOGATE_ASSIGN_OR_RETURN(const v1::Node* member, Find(name));
      routing->members.push_back(member);
    }
    OCTOGATE_ASSIGN_OR_RETURN(routing->fallback, Find(node.router().fallback()));
    for (const v1::Head& head : node.router().heads()) {
      RouterRouting::Head& built = routing->heads.emplace_back();
      built.threshold = head.threshold();
      if (head.has_lexical()) {
        OCTOGATE_ASSIGN_OR_RETURN(built.lexical, BuildLexical(head.lexical(), *routing));
      } else if (head.has_causal()) {
        OCTOGATE_ASSIGN_OR_RETURN(built.causal, BuildCausal(head.causal(), *routing));
      } else {
        return absl::InvalidArgumentError("a head is neither lexical nor causal");
      }
    }
    routing->rewritten.assign(routing->members.size(), false);
    if (!node.router().has_rewrite()) return routing;
    const v1::Rewrite& rewrite = node.router().rewrite();
    OCTOGATE_ASSIGN_OR_RETURN(routing->rewrite, BuildCausal(rewrite.causal(), *routing));
    const absl::flat_hash_set<std::string> names(rewrite.members().begin(),
                                                 rewrite.members().end());
    for (size_t i = 0; i < routing->members.size(); ++i) {
      routing->rewritten[i] = names.contains(routing->members[i]->name());
    }
    return routing;
  }

 private:
  absl::StatusOr<const v1::Node*> Find(const std::string& name) const {
    const v1::Node* node = snapshot_.FindNode(name);
    if (node != nullptr) return node;
    return absl::InvalidArgumentError(absl::StrCat("there is no node ", Quoted(name)));
  }

  // Descriptions and examples of a node and, for a router, of all nodes that it may hand over to.
  std::vector<std::string> TextsOf(const v1::Node& root) const {
    std::vector<std::string> texts;
    absl::flat_hash_set<const v1::Node*> seen = {&root};
    std::vector<const v1::Node*> open = {&root};
    while (!open.empty()) {
      const v1::Node& node = *open.back();
      open.pop_back();
      if (!node.description().empty()) texts.push_back(node.description());
      texts.insert(texts.end(), node.examples().begin(), node.examples().end());
      for (const std::string& name : node.router().members()) {
        const v1::Node* member = snapshot_.FindNode(name);
        if (member != nullptr && seen.insert(member).second) open.push_back(member);
      }
    }
    return texts;
  }

  absl::StatusOr<std::shared_ptr<const LexicalHead>> BuildLexical(const v1::LexicalHead& settings,
                                                                  const RouterRouting& routing) {
    LexicalExamples examples;
    bool fallback_is_member = false;
    for (const v1::Node* member : routing.members) {
      examples.classes.push_back(TextsOf(*member));
      fallback_is_member = fallback_is_member || member == routing.fallback;
    }
    // What belongs to the fallback belongs to no member. A fallback that is tried for anything,
    // e.g. another router, would claim the members' own examples.
    if (!fallback_is_member && !routing.fallback->has_router()) {
      examples.none = {routing.fallback->examples().begin(), routing.fallback->examples().end()};
    }
    const std::string fingerprint = Fingerprint(settings, examples);
    std::shared_ptr<const LexicalHead>& head = used_[fingerprint];
    if (head != nullptr) return head;
    if (const auto known = known_.find(fingerprint); known != known_.end()) {
      head = known->second;
      return head;
    }
    OCTOGATE_ASSIGN_OR_RETURN(head, LexicalHead::Train(settings, examples, deadline_));
    return head;
  }

  absl::StatusOr<std::shared_ptr<const CausalHead>> BuildCausal(const v1::CausalHead& settings,
                                                                const RouterRouting& routing) {
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<CausalModel> model, find_(settings.model()));
    std::vector<CausalHead::Member> members;
    for (const v1::Node* member : routing.members) {
      members.push_back({member->name(), member->token()});
    }
    return CausalHead::Create(settings, members, std::move(model), deadline_);
  }

  const RoutingSnapshot& snapshot_;
  const FindCausalModel& find_;
  const absl::Time deadline_;
  const LexicalHeads known_;
  LexicalHeads& used_;
};

}  // namespace

RoutingSnapshot::RoutingSnapshot(v1::Graph graph, int64_t version)
    : graph_(std::move(graph)), version_(version) {
  for (const v1::Node& node : graph_.spec().nodes()) nodes_.emplace(node.name(), &node);
}

RoutingSnapshot::~RoutingSnapshot() = default;

absl::StatusOr<std::shared_ptr<const RoutingSnapshot>> RoutingSnapshot::Build(
    v1::Graph graph, int64_t version, const FindCausalModel& find, absl::Time deadline,
    const RoutingSnapshot* previous) {
  const std::shared_ptr<RoutingSnapshot> snapshot(new RoutingSnapshot(std::move(graph), version));
  Builder builder(*snapshot, find, deadline,
                  previous == nullptr ? LexicalHeads() : previous->lexical_heads_,
                  &snapshot->lexical_heads_);
  for (const v1::Node& node : snapshot->graph_.spec().nodes()) {
    if (!node.has_router()) continue;
    absl::StatusOr<std::shared_ptr<const RouterRouting>> routing = builder.Build(node);
    if (!routing.ok()) {
      return Annotate(routing.status(), absl::StrCat("router ", Quoted(node.name())));
    }
    snapshot->routers_.emplace(node.name(), *std::move(routing));
  }
  return snapshot;
}

void RoutingSnapshot::Route(std::string_view router, std::string_view query, RouteOptions options,
                            Done done) const {
  const auto routing = routers_.find(ToAbsl(router));
  if (routing == routers_.end()) {
    return done(absl::NotFoundError(
        absl::StrCat("graph '", graph_.metadata().name(), "' has no router ", Quoted(router))));
  }
  RunRoutingStep(shared_from_this(), *routing->second, std::string(query), std::move(options),
                 std::move(done));
}

const v1::Node* RoutingSnapshot::FindNode(std::string_view name) const {
  const auto node = nodes_.find(ToAbsl(name));
  return node == nodes_.end() ? nullptr : node->second;
}

}  // namespace octogate::router
