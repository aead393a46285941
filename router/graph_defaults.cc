#include "absl/strings/str_cat.h"
#include "router/cache_validation.h"
#include "router/graph_manifest.h"

namespace octogate::router {
namespace {

void ApplyDefaults(v1::CausalHead* head) {
  if (head->prompt().empty() && head->system().empty()) head->set_system("route");
  if (head->end_token().empty()) head->set_end_token("<fn:end>");
  if (head->argument_style() == v1::ARGUMENT_STYLE_UNSPECIFIED) {
    head->set_argument_style(v1::ARGUMENT_STYLE_RAW);
  }
  if (head->max_argument_tokens() == 0) head->set_max_argument_tokens(128);
}

void ApplyDefaults(v1::RouterNode* router) {
  for (v1::Head& head : *router->mutable_heads()) {
    if (!head.has_threshold() && !head.has_risk() && !head.has_coverage()) {
      head.set_threshold(0.5);
    }
    if (head.has_causal()) ApplyDefaults(head.mutable_causal());
    if (head.has_lexical()) {
      v1::LexicalHead& lexical = *head.mutable_lexical();
      if (lexical.hash_bits() == 0) lexical.set_hash_bits(16);
      if (lexical.epochs() == 0) lexical.set_epochs(40);
      if (!lexical.has_seed()) lexical.set_seed(1);
    }
    if (head.has_encoder()) {
      v1::EncoderHead& encoder = *head.mutable_encoder();
      if (encoder.epochs() == 0) encoder.set_epochs(40);
      if (!encoder.has_seed()) encoder.set_seed(1);
    }
  }
  if (router->has_rewrite()) ApplyDefaults(router->mutable_rewrite()->mutable_causal());
}

void ApplyDefaults(v1::VoteNode* vote) {
  if (vote->samples() == 0) vote->set_samples(1);
  if (vote->same() == v1::ANSWER_FORM_UNSPECIFIED) vote->set_same(v1::ANSWER_FORM_TEXT);
  if (vote->weight() == v1::VOTE_WEIGHT_UNSPECIFIED) vote->set_weight(v1::VOTE_WEIGHT_EQUAL);
}

void ApplyDefaults(v1::VerifyNode* verify) {
  if (verify->prompt().empty()) {
    verify->set_prompt("Question: {input}\nAnswer: {output}\nIs the answer right? Say yes or no.");
  }
  if (verify->judgement() == v1::JUDGEMENT_UNSPECIFIED) {
    verify->set_judgement(v1::JUDGEMENT_YES_NO);
  }
}

void ApplyDefaults(v1::ChoiceNode* choice) {
  if (choice->max_calls() == 0) choice->set_max_calls(1);
  if (choice->same() == v1::ANSWER_FORM_UNSPECIFIED &&
      (choice->max_calls() > 1 || !choice->outcomes().empty())) {
    choice->set_same(v1::ANSWER_FORM_TEXT);
  }
  if (choice->max_calls() < 2 || choice->has_sure()) return;
  choice->set_sure(choice->has_tolerance() ? choice->tolerance()
                   : choice->has_quality() ? choice->quality()
                                           : 1.0);
}

void ApplyDefaults(v1::LinkSettings* settings) {
  if (settings->mode() == v1::LINK_MODE_UNSPECIFIED) settings->set_mode(v1::LINK_MODE_AUTO);
  if (settings->recall() == v1::LINK_RECALL_UNSPECIFIED) {
    settings->set_recall(v1::LINK_RECALL_CONSERVATIVE);
  }
  if (settings->token_budget() == 0) settings->set_token_budget(4096);
  if (settings->style() == v1::LINK_STYLE_UNSPECIFIED) settings->set_style(v1::LINK_STYLE_DDL);
}

void ApplyDefaults(v1::SqlNode* sql) {
  if (sql->max_rows() == 0) sql->set_max_rows(100);
  if (sql->max_bytes() == 0) sql->set_max_bytes(64 << 10);
  if (sql->timeout_ms() == 0) sql->set_timeout_ms(5000);
  if (sql->format() == v1::ROW_FORMAT_UNSPECIFIED) sql->set_format(v1::ROW_FORMAT_TABLE);
}

// A graph without caches of its own says nothing of them, as it was written.
void ApplyDefaults(v1::QueryCache* cache) {
  v1::DecisionCache& decisions = *cache->mutable_decisions();
  if (!decisions.has_max_entries()) decisions.set_max_entries(kDefaultMaxDecisions);
  if (!cache->has_answers()) return;
  v1::AnswerCache& answers = *cache->mutable_answers();
  if (answers.max_entries() == 0) answers.set_max_entries(10'000);
  if (answers.expires_after_ms() == 0) answers.set_expires_after_ms(3'600'000);
}

}  // namespace

void ApplyDefaults(v1::Graph* graph) {
  v1::GraphSpec& spec = *graph->mutable_spec();
  v1::GraphLimits& limits = *spec.mutable_limits();
  if (limits.max_steps() == 0) limits.set_max_steps(8);
  if (limits.timeout_ms() == 0) limits.set_timeout_ms(60'000);
  if (spec.has_cache()) ApplyDefaults(spec.mutable_cache());
  for (v1::Catalog& catalog : *spec.mutable_catalogs()) {
    if (!catalog.has_max_values()) catalog.set_max_values(1000);
  }
  for (v1::Node& node : *spec.mutable_nodes()) {
    if (node.token().empty()) node.set_token(absl::StrCat("<fn:", node.name(), ">"));
    if (node.has_model() && node.model().max_tokens() == 0) {
      node.mutable_model()->set_max_tokens(256);
    }
    if (node.has_replay() && node.replay().max_tokens() == 0) {
      node.mutable_replay()->set_max_tokens(256);
    }
    if (node.has_vote()) ApplyDefaults(node.mutable_vote());
    if (node.has_verify()) ApplyDefaults(node.mutable_verify());
    if (node.has_choice()) ApplyDefaults(node.mutable_choice());
    if (node.has_router()) ApplyDefaults(node.mutable_router());
    if (node.has_retriever()) ApplyDefaults(node.mutable_retriever()->mutable_settings());
    if (node.has_sql()) ApplyDefaults(node.mutable_sql());
  }
  for (v1::Edge& edge : *spec.mutable_edges()) {
    if (edge.on() == v1::EDGE_CONDITION_LOW_CONFIDENCE) {
      if (!edge.has_below()) edge.set_below(0.5);
      if (edge.measure() == v1::CONFIDENCE_MEASURE_UNSPECIFIED) {
        edge.set_measure(v1::CONFIDENCE_MEASURE_MEAN);
      }
    }
    if (edge.input().empty()) {
      edge.set_input(edge.on() == v1::EDGE_CONDITION_SUCCESS ? "{output}" : "{query}");
    }
  }
}

}  // namespace octogate::router
