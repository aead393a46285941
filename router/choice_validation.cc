#include "router/choice_validation.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "router/manifest_decoder.h"

namespace octogate::router {
namespace {

class ChoiceChecker {
 public:
  explicit ChoiceChecker(const v1::Graph& graph) : spec_(graph.spec()) {
    for (const v1::Node& node : spec_.nodes()) nodes_.emplace(node.name(), &node);
  }

  std::vector<GraphProblem> Run() {
    for (int i = 0; i < spec_.nodes_size(); ++i) {
      if (!spec_.nodes(i).has_choice()) continue;
      CheckChoice(absl::StrCat("spec.nodes[", i, "].choice"), spec_.nodes(i).choice());
    }
    absl::flat_hash_set<std::string_view> tenants;
    for (int i = 0; i < spec_.limits().tenants_size(); ++i) {
      const std::string& tenant = spec_.limits().tenants(i).tenant();
      if (tenant.empty() || tenants.insert(tenant).second) continue;
      Problem(absl::StrCat("spec.limits.tenants[", i, "].tenant"),
              absl::StrCat("a second entry for ", Quoted(tenant), "; remove one of them"));
    }
    return std::move(problems_);
  }

 private:
  void Problem(std::string path, std::string message, bool warning = false) {
    problems_.push_back({std::move(path), std::move(message), warning});
  }

  void CheckChoice(const std::string& path, const v1::ChoiceNode& choice) {
    CheckNumbers(path, choice);
    CheckDomains(path, choice);
    absl::flat_hash_set<std::string_view> seen;
    for (int m = 0; m < choice.members_size(); ++m) {
      const std::string& name = choice.members(m);
      if (name.empty()) continue;
      const std::string member_path = absl::StrCat(path, ".members[", m, "]");
      if (!seen.insert(name).second) {
        Problem(member_path, absl::StrCat("a second member '", name, "'"));
        continue;
      }
      const auto node = nodes_.find(name);
      if (node == nodes_.end()) {
        std::vector<std::string> known;
        for (const v1::Node& candidate : spec_.nodes()) known.push_back(candidate.name());
        Problem(member_path, absl::StrCat("there is no node ", Quoted(name),
                                          Suggest(name, std::move(known), "nodes")));
      } else {
        CheckMember(member_path, choice, *node->second);
      }
    }
  }

  void CheckNumbers(const std::string& path, const v1::ChoiceNode& choice) {
    struct Number {
      const char* key;
      v1::ChoicePolicy policy;
      const char* policy_name;
      bool set;
    };
    const Number numbers[] = {
        {"tolerance", v1::CHOICE_POLICY_CHEAPEST_ABOVE, "cheapestAbove", choice.has_tolerance()},
        {"budget", v1::CHOICE_POLICY_BEST_UNDER, "bestUnder", choice.has_budget()},
        {"quality", v1::CHOICE_POLICY_FASTEST_ABOVE, "fastestAbove", choice.has_quality()}};
    for (const Number& number : numbers) {
      if (choice.policy() == number.policy && !number.set) {
        Problem(path, absl::StrCat(
                          "'policy: ", number.policy_name, "' needs '", number.key,
                          "'; set it, e.g. '", number.key,
                          number.policy == v1::CHOICE_POLICY_BEST_UNDER ? ": 0.001'" : ": 0.7'"));
      } else if (choice.policy() != number.policy && number.set) {
        Problem(absl::StrCat(path, ".", number.key),
                absl::StrCat("'", number.key, "' goes with 'policy: ", number.policy_name,
                             "' only; remove it"));
      }
    }
    if (choice.max_calls() < 2 && choice.has_sure()) {
      Problem(path + ".sure", "'sure' goes with 'maxCalls: 2' only; remove it");
    }
    if (choice.max_calls() < 2 && choice.outcomes().empty() &&
        choice.same() != v1::ANSWER_FORM_UNSPECIFIED) {
      Problem(path + ".same", "'same' goes with 'maxCalls: 2' or 'outcomes'; remove it");
    }
  }

  void CheckDomains(const std::string& path, const v1::ChoiceNode& choice) {
    absl::flat_hash_set<std::string_view> seen;
    for (int d = 0; d < choice.domains_size(); ++d) {
      const std::string& name = choice.domains(d).name();
      if (name.empty() || seen.insert(name).second) continue;
      Problem(absl::StrCat(path, ".domains[", d, "].name"),
              absl::StrCat("a second domain '", name, "'; names of domains are unique"));
    }
  }

  void CheckMember(const std::string& path, const v1::ChoiceNode& choice, const v1::Node& member) {
    const bool generates = member.has_model() || member.has_replay();
    const bool judges = member.has_vote() || member.has_verify();
    if (!generates && !(judges && choice.max_calls() < 2)) {
      Problem(path, absl::StrCat("the node '", member.name(), "' must be a model or replay node",
                                 choice.max_calls() < 2 ? ", a vote or a verifier" : ""));
      return;
    }
    const bool has_price =
        member.has_replay() ? member.replay().has_price() : member.model().has_price();
    const bool by_cost = choice.policy() == v1::CHOICE_POLICY_CHEAPEST_ABOVE ||
                         choice.policy() == v1::CHOICE_POLICY_BEST_UNDER;
    if (generates && by_cost && !has_price) {
      Problem(path, absl::StrCat("the policy compares costs, and the node '", member.name(),
                                 "' has no price; give it 'price: {input: …, output: …}' per "
                                 "million tokens, of 0 where it costs nothing"));
    }
    const bool has_speed =
        member.has_replay() ? member.replay().has_speed() : member.model().has_speed();
    if (choice.policy() == v1::CHOICE_POLICY_FASTEST_ABOVE && !has_speed &&
        choice.outcomes().empty()) {
      Problem(path,
              absl::StrCat("until it has been measured, nothing says how fast the node '",
                           member.name(), "' is, and it counts as the slowest",
                           generates ? "; give it 'speed: {tokensPerSecond: …}'" : ""),
              true);
    }
    if (!choice.outcomes().empty()) return;
    const auto& quality =
        member.has_replay() ? member.replay().quality() : member.model().quality();
    const auto& expected =
        member.has_replay() ? member.replay().expected() : member.model().expected();
    if (quality.empty() && expected.empty()) {
      Problem(path,
              absl::StrCat("nothing says how often the node '", member.name(),
                           "' is right; name a file of 'outcomes' in the choice",
                           generates ? ", or give the node 'quality: [{accuracy: 0.8}]'" : ""));
    }
    for (const v1::DomainQuality& entry : quality) CheckDomainOf(path, choice, member, entry);
  }

  void CheckDomainOf(const std::string& path, const v1::ChoiceNode& choice, const v1::Node& member,
                     const v1::DomainQuality& entry) {
    if (entry.domain().empty()) return;
    std::vector<std::string> known;
    for (const v1::QueryDomain& domain : choice.domains()) {
      if (domain.name() == entry.domain()) return;
      known.push_back(domain.name());
    }
    Problem(path,
            absl::StrCat("the node '", member.name(), "' has a quality on ", Quoted(entry.domain()),
                         ", which is none of the choice's domains",
                         Suggest(entry.domain(), std::move(known), "domains")),
            true);
  }

  const v1::GraphSpec& spec_;
  absl::flat_hash_map<std::string_view, const v1::Node*> nodes_;
  std::vector<GraphProblem> problems_;
};

}  // namespace

std::vector<GraphProblem> CheckChoices(const v1::Graph& graph) {
  return ChoiceChecker(graph).Run();
}

}  // namespace octogate::router
