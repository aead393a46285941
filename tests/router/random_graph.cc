#include "tests/router/random_graph.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "router/graph_manifest.h"
#include "router/graph_schema.h"

namespace octogate::router {
namespace {

int Below(std::mt19937* random, int n) { return static_cast<int>((*random)() % n); }
bool Chance(std::mt19937* random) { return Below(random, 2) == 0; }
double Fraction(std::mt19937* random) { return Below(random, 1001) / 1000.0; }

void FillCausal(std::mt19937* random, const v1::RouterNode& router, v1::CausalHead* head) {
  head->set_model("m0");
  if (Chance(random)) head->set_prompt(absl::StrCat("<|user|>{query}", RandomText(random, 2)));
  if (Chance(random)) head->set_argument_style(v1::ARGUMENT_STYLE_CALL);
  if (Chance(random)) {
    for (int i = 0; i < router.members_size(); ++i) {
      (*head->mutable_tokens())[router.members(i)] = absl::StrCat("<nexa_", i, ">");
    }
    head->set_end_token("<nexa_end>");
  }
}

void FillRouter(std::mt19937* random, int i, int nodes, v1::RouterNode* router) {
  // The next node is always a member, so that every node can be reached.
  for (int k = i + 1; k < nodes; ++k) {
    if (k == i + 1 || Below(random, 3) == 0) router->add_members(absl::StrCat("n", k));
  }
  router->set_fallback(absl::StrCat("n", nodes - 1));
  for (int heads = 1 + Below(random, 3); heads > 0; --heads) {
    v1::Head& head = *router->add_heads();
    if (Chance(random)) head.set_threshold(Fraction(random));
    if (Chance(random)) {
      head.mutable_lexical()->set_hash_bits(10 + Below(random, 13));
      if (Chance(random)) head.mutable_lexical()->set_seed(Below(random, 3));
    } else if (Chance(random)) {
      head.mutable_encoder()->set_model("m0");
      if (Chance(random)) head.mutable_encoder()->set_epochs(1 + Below(random, 1000));
    } else {
      FillCausal(random, *router, head.mutable_causal());
      continue;
    }
    if (!head.has_threshold() && Chance(random)) head.set_coverage(0.5 + Fraction(random) / 4);
  }
  if (Chance(random)) {
    FillCausal(random, *router, router->mutable_rewrite()->mutable_causal());
    router->mutable_rewrite()->add_members(router->members(0));
  }
}

void FillCache(std::mt19937* random, v1::GraphSpec* spec) {
  if (Chance(random)) {
    v1::DecisionCache& decisions = *spec->mutable_cache()->mutable_decisions();
    if (Chance(random)) decisions.set_max_entries(Below(random, (1 << 20) + 1));
  }
  if (Chance(random)) return;
  v1::AnswerCache& answers = *spec->mutable_cache()->mutable_answers();
  if (Chance(random)) answers.set_max_entries(1 + Below(random, 1 << 20));
  if (Chance(random)) answers.set_expires_after_ms(1 + int64_t{1000} * Below(random, 2'592'000));
  if (Chance(random)) {
    answers.set_encoder("m0");
    answers.set_threshold(1 - Fraction(random) / 2);
  }
}

// Adds a choice among nodes that answer, and makes it the entry: everything that could be reached
// still can.
void AddChoice(std::mt19937* random, v1::GraphSpec* spec) {
  const bool two = Chance(random);
  v1::ChoiceNode choice;
  choice.set_policy(static_cast<v1::ChoicePolicy>(1 + Below(random, 3)));
  for (v1::Node& node : *spec->mutable_nodes()) {
    if (!node.has_model() && !node.has_replay()) continue;
    v1::Price* const price = node.has_model() ? node.mutable_model()->mutable_price()
                                              : node.mutable_replay()->mutable_price();
    if (price->output() == 0) price->set_output(1 + Below(random, 9));
    v1::DomainQuality* const quality = node.has_model() ? node.mutable_model()->add_quality()
                                                        : node.mutable_replay()->add_quality();
    if (Chance(random)) quality->set_domain("d0");
    quality->set_accuracy(Fraction(random));
    v1::Speed* const speed = node.has_model() ? node.mutable_model()->mutable_speed()
                                              : node.mutable_replay()->mutable_speed();
    speed->set_first_token_ms(Below(random, 100));
    speed->set_tokens_per_second(1 + Below(random, 1000));
    choice.add_members(node.name());
  }
  if (choice.members().empty()) return;
  if (choice.policy() == v1::CHOICE_POLICY_CHEAPEST_ABOVE) choice.set_tolerance(Fraction(random));
  if (choice.policy() == v1::CHOICE_POLICY_BEST_UNDER) choice.set_budget(1 + Below(random, 9));
  if (choice.policy() == v1::CHOICE_POLICY_FASTEST_ABOVE) choice.set_quality(Fraction(random));
  if (Chance(random)) choice.set_outcomes(absl::StrCat("o", RandomText(random, 2)));
  for (int d = Below(random, 3); d > 0; --d) {
    v1::QueryDomain& domain = *choice.add_domains();
    domain.set_name(absl::StrCat("d", d));
    domain.add_examples(absl::StrCat("x", RandomText(random, 4)));
  }
  choice.set_max_calls(two ? 2 : 1);
  if (two && Chance(random)) choice.set_sure(Fraction(random));
  v1::Node& node = *spec->add_nodes();
  node.set_name("choice");
  *node.mutable_choice() = std::move(choice);
  v1::Edge& edge = *spec->add_edges();
  edge.set_from("choice");
  edge.set_to(spec->entry());
  edge.set_on(v1::EDGE_CONDITION_ERROR);
  edge.set_max_visits(1);
  spec->set_entry("choice");
}

void FillNode(std::mt19937* random, int i, int nodes, v1::Node* node) {
  node->set_name(absl::StrCat("n", i));
  node->set_description(RandomText(random, 3));
  for (int n = Below(random, 4); n > 0; --n) {
    node->add_examples(absl::StrCat("x", RandomText(random, 4)));
  }
  if (i + 1 < nodes && Chance(random)) return FillRouter(random, i, nodes, node->mutable_router());
  if (Chance(random)) {
    node->mutable_tool()->set_tool("reply");
    (*node->mutable_tool()->mutable_parameters())["text"] = RandomText(random, 5);
    return;
  }
  const auto fill_expected = [random](auto* expected) {
    for (int n = Below(random, 4); n > 0; --n) {
      const int after = expected->empty() ? 0 : expected->rbegin()->up_to_tokens();
      v1::ExpectedAccuracy& entry = *expected->Add();
      entry.set_up_to_tokens(after + 1 + Below(random, 1000));
      entry.set_accuracy(Fraction(random));
    }
  };
  if (Chance(random)) {
    v1::ReplayNode& replay = *node->mutable_replay();
    replay.set_recording(absl::StrCat("r", RandomText(random, 2)));
    replay.set_keep_time(Chance(random));
    if (Chance(random)) replay.mutable_price()->set_output(0.5 + Below(random, 100));
    fill_expected(replay.mutable_expected());
    return;
  }
  v1::ModelNode& model = *node->mutable_model();
  if (Chance(random)) model.mutable_price()->set_input(0.25 + Below(random, 100));
  fill_expected(model.mutable_expected());
  model.set_model(Chance(random) ? "m0" : "m1");
  model.set_system(RandomText(random, 3));
  if (Chance(random)) model.set_max_tokens(1 + Below(random, 32768));
  if (Chance(random)) model.mutable_sampling()->set_top_p(1 - Fraction(random) / 2);
  if (Chance(random)) model.mutable_sampling()->set_temperature(Fraction(random));
  if (Chance(random)) model.mutable_sampling()->set_seed((*random)());
  if (Chance(random)) model.add_stop(absl::StrCat("s", RandomText(random, 2)));
}

}  // namespace

std::string RandomText(std::mt19937* random, int max_pieces) {
  static const char* const kPieces[] = {
      "a",      "word",   " ",   "\n",  "\t",   "'",    "\"", "\\",       ":",
      ": ",     " #",     "-",   "- ",  "null", "true", "12", "1e3",      "~",
      "&x",     "*x",     "!t",  "{",   "}",    "[",    "]",  ",",        "|",
      ">",      "%",      "@",   "`",   "é",    "漢",   "😀",  "\xC2\x85", "\xC2\xA0",
      "\u2028", "\uFEFF", "---", "...", "\x01", "\x7F", "\r", "{query}",  "yes"};
  std::string text;
  for (int n = Below(random, max_pieces + 1); n > 0; --n) {
    text += kPieces[Below(random, static_cast<int>(std::size(kPieces)))];
  }
  return text;
}

v1::Graph RandomGraph(std::mt19937* random) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name(absl::StrCat("graph-", Below(random, 100)));
  graph.mutable_metadata()->set_description(RandomText(random, 4));
  v1::GraphSpec& spec = *graph.mutable_spec();
  spec.set_entry("n0");
  v1::Model& in_process = *spec.add_models();
  in_process.set_name("m0");
  in_process.set_path("folder/model");
  const auto pick = [random](TextForm form) {
    const auto choices = ChoicesOf(form);
    return std::string(choices[Below(random, static_cast<int>(choices.size()))]);
  };
  if (Chance(random)) in_process.set_weight_format(pick(TextForm::kWeightFormat));
  if (Chance(random)) in_process.set_kv_dtype(pick(TextForm::kKvDtype));
  if (Chance(random)) in_process.set_activations(pick(TextForm::kActivations));
  if (Chance(random)) in_process.set_threads(1 + Below(random, 1024));
  if (Chance(random)) in_process.set_max_sequences(1 + Below(random, 4096));
  if (Chance(random)) in_process.set_max_context(16 + Below(random, 100'000));
  v1::Model& remote = *spec.add_models();
  remote.set_name("m1");
  remote.add_workers("localhost:7071");
  remote.add_workers("[::1]:7072");
  const int nodes = 1 + Below(random, 12);
  for (int i = 0; i < nodes; ++i) {
    FillNode(random, i, nodes, spec.add_nodes());
    if (i + 1 == nodes || spec.nodes(i).has_router()) continue;
    v1::Edge& edge = *spec.add_edges();  // To the next node, so that it can be reached.
    edge.set_from(absl::StrCat("n", i));
    edge.set_to(absl::StrCat("n", i + 1));
    edge.set_on(static_cast<v1::EdgeCondition>(1 + Below(random, 3)));
    if (edge.on() == v1::EDGE_CONDITION_LOW_CONFIDENCE && Chance(random)) {
      edge.set_below(Fraction(random));
      edge.set_measure(static_cast<v1::ConfidenceMeasure>(1 + Below(random, 4)));
    }
    if (Chance(random)) edge.set_input(absl::StrCat("i", RandomText(random, 3)));
  }
  for (int n = Below(random, 4); n > 0; --n) {
    v1::Edge& edge = *spec.add_edges();
    edge.set_from(absl::StrCat("n", Below(random, nodes)));
    edge.set_to(absl::StrCat("n", Below(random, nodes)));
    edge.set_on(static_cast<v1::EdgeCondition>(1 + Below(random, 3)));
    edge.set_max_visits(1 + Below(random, 16));
  }
  FillCache(random, &spec);
  if (Chance(random)) spec.mutable_limits()->set_max_steps(1 + Below(random, 64));
  if (Chance(random)) spec.mutable_limits()->set_max_calls(2 + Below(random, 1023));
  if (Chance(random)) spec.mutable_limits()->set_max_cost(1e9);
  if (Chance(random)) AddChoice(random, &spec);
  for (int t = Below(random, 3); t > 0; --t) {
    v1::TenantLimits& tenant = *spec.mutable_limits()->add_tenants();
    tenant.set_tenant(absl::StrCat("t", t));
    if (Chance(random)) tenant.set_max_calls(1 + Below(random, 1024));
    if (Chance(random)) tenant.set_max_cost(Below(random, 1000));
    if (Chance(random)) tenant.set_quality(Fraction(random));
  }
  ApplyDefaults(&graph);
  return graph;
}

}  // namespace octogate::router
