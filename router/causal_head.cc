#include "router/causal_head.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::router {
namespace {

absl::StatusOr<CausalHead::Scores> ToScores(const v1::WorkerScoreResponse& response,
                                            const std::vector<bool>& live) {
  const auto asked = static_cast<int>(std::count(live.begin(), live.end(), true));
  if (response.logits_size() != asked) {
    return absl::InternalError(absl::StrCat("the model returned ", response.logits_size(),
                                            " logits for ", asked, " tokens"));
  }
  const auto finite = [](double value) { return std::isfinite(value); };
  if (!std::all_of(response.logits().begin(), response.logits().end(), finite) ||
      !finite(response.log_sum_exp())) {
    return absl::InternalError("the model returned a logit that is not a number");
  }
  CausalHead::Scores scores;
  scores.probabilities.assign(live.size(), 0);
  scores.usage = response.usage();
  const double max = *std::max_element(response.logits().begin(), response.logits().end());
  double sum = 0;
  for (const float logit : response.logits()) sum += std::exp(logit - max);
  int next = 0;
  for (size_t i = 0; i < live.size(); ++i) {
    if (!live[i]) continue;
    scores.probabilities[i] = static_cast<float>(std::exp(response.logits(next++) - max) / sum);
  }
  scores.live_probability = std::min(1.0, std::exp(max + std::log(sum) - response.log_sum_exp()));
  return scores;
}

// What one generation of an argument has so far.
struct Writing {
  explicit Writing(const FunctionalTokenSyntax* syntax) : parser(syntax) {}
  FunctionalTokenParser parser;
  v1::WorkerGenerateEnd end;
};

}  // namespace

CausalHead::CausalHead(v1::CausalHead settings, std::vector<std::string> tokens,
                       std::vector<bool> in_vocabulary, std::shared_ptr<CausalModel> model,
                       FunctionalTokenSyntax syntax)
    : settings_(std::move(settings)),
      tokens_(std::move(tokens)),
      in_vocabulary_(std::move(in_vocabulary)),
      model_(std::move(model)),
      syntax_(std::move(syntax)) {
  if (!settings_.learned_rows()) return;
  std::vector<std::string> known;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (in_vocabulary_[i]) known.push_back(tokens_[i]);
  }
  vectors_ = std::make_shared<CausalVectors>(settings_, std::move(known), model_);
}

CausalHead::CausalHead(const CausalHead& other, std::shared_ptr<const CausalRows> rows)
    : settings_(other.settings_),
      tokens_(other.tokens_),
      in_vocabulary_(other.in_vocabulary_),
      model_(other.model_),
      syntax_(other.syntax_),
      vectors_(other.vectors_),
      rows_(std::move(rows)) {}

std::shared_ptr<const CausalHead> CausalHead::WithRows(
    std::shared_ptr<const CausalRows> rows) const {
  return std::shared_ptr<const CausalHead>(new CausalHead(*this, std::move(rows)));
}

absl::StatusOr<std::shared_ptr<const CausalHead>> CausalHead::Create(
    const v1::CausalHead& settings, const std::vector<Member>& members,
    std::shared_ptr<CausalModel> model, absl::Time deadline) {
  std::vector<std::string> tokens;
  std::vector<bool> needed;
  for (const Member& member : members) {
    const auto own = settings.tokens().find(member.name);
    const bool spelled = own != settings.tokens().end();
    tokens.push_back(spelled ? own->second : member.token);
    needed.push_back(member.needed && (spelled || !settings.learned_rows()));
  }
  OCTOGATE_ASSIGN_OR_RETURN(
      FunctionalTokenSyntax syntax,
      FunctionalTokenSyntax::Create(tokens, settings.end_token(), settings.argument_style()));

  std::vector<std::string> asked = tokens;
  asked.push_back(settings.end_token());
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                            model->MissingTokens(asked, deadline));
  const absl::flat_hash_set<std::string> lacks(missing.begin(), missing.end());
  std::vector<bool> in_vocabulary;
  std::vector<std::string> lines;
  bool writes = !settings.learned_rows();
  for (size_t i = 0; i < members.size(); ++i) {
    in_vocabulary.push_back(!lacks.contains(tokens[i]));
    if (in_vocabulary[i] && settings.argument_style() != v1::ARGUMENT_STYLE_NONE) writes = true;
    if (in_vocabulary[i] || !needed[i]) continue;
    lines.push_back(absl::StrCat(Quoted(tokens[i]), " of the node ", Quoted(members[i].name)));
  }
  if (writes && lacks.contains(settings.end_token())) {
    lines.push_back(absl::StrCat(Quoted(settings.end_token()), ", the end token"));
  }
  if (!lines.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the vocabulary of the model ", Quoted(settings.model()), " lacks ",
        absl::StrJoin(lines, "; "),
        "; map nodes to the checkpoint's own spelling with 'tokens' and 'endToken', have rows "
        "learned for them with 'learnedRows', or train it"));
  }
  return std::shared_ptr<const CausalHead>(new CausalHead(
      settings, std::move(tokens), std::move(in_vocabulary), std::move(model), std::move(syntax)));
}

void CausalHead::ScoreByRows(std::string_view query, const std::vector<bool>& live,
                             const CallContext& context,
                             std::function<void(absl::StatusOr<Scores>)> done) const {
  vectors_->Read(
      query, context,
      [head = shared_from_this(), live,
       done = std::move(done)](absl::StatusOr<CausalVectors::Reading> reading) {
        if (!reading.ok()) return done(reading.status());
        if (reading->vector.size() != head->rows_->dimension()) {
          return done(absl::InternalError(absl::StrCat(
              "the model returned a hidden state of another length: ", reading->vector.size(),
              " values instead of ", head->rows_->dimension())));
        }
        HeadScores scores;
        head->rows_->Score(reading->vector, live, &scores);
        done(Scores{std::move(scores.probabilities), scores.live_probability, reading->usage});
      });
}

void CausalHead::Score(std::string_view query, const std::vector<bool>& live,
                       const CallContext& context,
                       std::function<void(absl::StatusOr<Scores>)> done) const {
  if (rows_ != nullptr) return ScoreByRows(query, live, context, std::move(done));
  v1::WorkerScoreRequest request;
  *request.mutable_prompt() = CausalPrompt(settings_, query);
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (live[i]) request.add_tokens(tokens_[i]);
  }
  model_->Score(
      request, context,
      [live, done = std::move(done)](absl::StatusOr<v1::WorkerScoreResponse> response) {
        done(response.ok() ? ToScores(*response, live) : absl::StatusOr<Scores>(response.status()));
      });
}

void CausalHead::WriteArgument(std::string_view query, size_t i, const CallContext& context,
                               std::function<void(absl::StatusOr<Argument>)> done) const {
  v1::WorkerGenerateRequest request;
  *request.mutable_prompt() = CausalPrompt(settings_, query);
  request.mutable_prompt()->add_suffix_tokens(tokens_[i]);
  request.set_max_tokens(settings_.max_argument_tokens());
  request.add_stop_tokens(settings_.end_token());
  request.set_keep_special_tokens(true);

  auto writing = std::make_shared<Writing>(&syntax_);
  writing->parser.Feed(tokens_[i]);
  model_->Generate(
      request, context,
      [writing](const v1::WorkerGenerateResponse& message) {
        writing->parser.Feed(message.text());
        if (message.has_end()) writing->end = message.end();
      },
      // The head owns the syntax that the parser reads.
      [writing, head = shared_from_this(), done = std::move(done)](const absl::Status& status) {
        if (!status.ok()) return done(status);
        // The stop token may be left out of the text.
        if (writing->end.finish_reason() == v1::FINISH_REASON_STOP) {
          writing->parser.Feed(head->settings_.end_token());
        }
        done(Argument{writing->parser.Finish(), writing->end.usage()});
      });
}

}  // namespace octogate::router
