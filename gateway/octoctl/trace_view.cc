#include "gateway/octoctl/trace_view.h"

#include <algorithm>
#include <cstdio>
#include <string_view>

namespace octogate::octoctl {
namespace {

constexpr int kScoresShown = 3;
constexpr int kSetShown = 8;
constexpr int kDraftersShown = 8;
constexpr int kDepthsShown = 12;

std::string Probability(double value) {
  char text[16];
  std::snprintf(text, sizeof(text), "%.3f", value);
  return text;
}

std::string Bar(double probability) {
  constexpr int kWidth = 10;
  const int filled = static_cast<int>(probability * kWidth + 0.5);
  std::string bar;
  for (int i = 0; i < kWidth; ++i) bar += i < filled ? "█" : "░";
  return bar;
}

std::string_view ConditionName(v1::EdgeCondition condition) {
  switch (condition) {
    case v1::EDGE_CONDITION_SUCCESS:
      return "success";
    case v1::EDGE_CONDITION_ERROR:
      return "error";
    case v1::EDGE_CONDITION_LOW_CONFIDENCE:
      return "low confidence";
    default:
      return "?";
  }
}

void PrintHead(const v1::HeadScore& head, const Style& style, std::ostream& out) {
  out << "│    " << head.head() << " needs " << Probability(head.threshold()) << ", "
      << Duration(head.duration_us());
  if (head.decided()) out << style.green << "  decides" << style.reset;
  out << "\n";
  if (!head.error().empty()) {
    out << "│      " << style.yellow << OneLine(head.error(), 160) << style.reset << "\n";
  }
  if (head.set_size() > 0) {
    out << "│      set  ";
    for (int i = 0; i < std::min(kSetShown, head.set_size()); ++i) {
      out << (i > 0 ? ", " : "") << OneLine(head.set(i), 63);
    }
    if (head.set_size() > kSetShown) out << ", …";
    out << "\n";
  }
  for (int i = 0; i < std::min(kScoresShown, head.scores_size()); ++i) {
    const v1::TokenScore& score = head.scores(i);
    out << "│      " << style.dim << Bar(score.probability()) << style.reset << " "
        << Probability(score.probability()) << "  " << OneLine(score.node(), 63) << style.dim
        << "  " << OneLine(score.token(), 80) << style.reset << "\n";
  }
}

void PrintMember(const v1::MemberScore& member, const Style& style, std::ostream& out) {
  char numbers[96];
  std::snprintf(numbers, sizeof(numbers), "cost %.6g", member.cost());
  out << "│      " << style.dim << Bar(member.probability()) << style.reset << " "
      << Probability(member.probability()) << "  " << OneLine(member.node(), 63) << style.dim
      << "  " << numbers;
  if (member.duration_ms() > 0) {
    out << ", " << Duration(static_cast<int64_t>(member.duration_ms() * 1000));
  }
  if (!member.excluded().empty()) out << ", not asked: " << OneLine(member.excluded(), 120);
  out << style.reset << "\n";
}

void PrintJudged(const v1::Judged& judged, const Style& style, std::ostream& out) {
  for (const v1::Ballot& ballot : judged.ballots()) {
    out << "│      " << (ballot.counted() ? "" : "(not counted) ") << OneLine(ballot.node(), 63);
    if (ballot.sample() > 0) out << " #" << ballot.sample() + 1;
    if (ballot.code() != 0) {
      out << style.red << "  failed (" << ballot.code() << "): " << style.reset
          << OneLine(ballot.error(), 120);
    } else {
      out << "  " << OneLine(ballot.answer(), 80);
    }
    out << style.dim << "  " << Duration(ballot.duration_us()) << ", "
        << ballot.usage().prompt_tokens() << " + " << ballot.usage().completion_tokens()
        << " tokens" << style.reset << "\n";
  }
  out << "│    confidence " << Probability(judged.confidence()) << style.dim << "  "
      << OneLine(judged.reason(), 160) << style.reset << "\n";
}

void PrintLinked(const v1::Linked& linked, const Style& style, std::ostream& out) {
  constexpr int kShownTables = 12;
  const v1::LinkSchemaResponse& link = linked.link();
  const char* const scope = link.scope() == v1::LINK_SCOPE_FULL      ? "the whole schema"
                            : link.scope() == v1::LINK_SCOPE_FOCUSED ? "what matches"
                                                                     : "nothing matched; a part";
  for (int i = 0; i < std::min(kShownTables, link.tables_size()); ++i) {
    const v1::LinkedTable& table = link.tables(i);
    out << "│      " << style.cyan << OneLine(table.name(), 63) << style.reset << style.dim << "  "
        << table.columns_size() << (table.columns_size() == 1 ? " column" : " columns")
        << style.reset << "\n";
  }
  if (link.tables_size() > kShownTables) {
    out << "│      and " << link.tables_size() - kShownTables << " more tables\n";
  }
  out << "│    " << scope << style.dim << "  " << link.rendered_tokens() << " tokens";
  if (link.full_tokens() > 0) out << " of " << link.full_tokens();
  out << ", catalog " << OneLine(link.catalog_version(), 16);
  if (link.source_changed()) out << ", whose file has changed since";
  out << style.reset << "\n";
}

// Of drafts that were verified, or took time all the same.
void PrintSpeculation(const v1::SpeculationUsage& usage, const Style& style, std::ostream& out) {
  const bool verified = usage.drafted_tokens() > 0;
  out << "│    " << style.dim;
  if (verified) {
    out << TokensAStep(usage) << ": " << usage.accepted_tokens() << " of " << usage.drafted_tokens()
        << " drafted right in ";
  } else {
    out << "no drafts verified in ";
  }
  out << usage.steps() << " steps; drafting " << Duration(usage.draft_us()) << ", verifying "
      << Duration(usage.verify_us()) << ", without drafts " << Duration(usage.plain_us())
      << style.reset << "\n";
  if (!verified) return;
  out << "│      " << style.dim;
  for (int i = 0; i < std::min(kDraftersShown, usage.drafters_size()); ++i) {
    const v1::DrafterUsage& drafter = usage.drafters(i);
    out << OneLine(drafter.drafter(), 32) << " " << drafter.accepted_tokens() << "/"
        << drafter.drafted_tokens() << ", ";
  }
  out << "by depth";
  for (int i = 0; i < std::min(kDepthsShown, usage.depths_size()); ++i) {
    out << " " << usage.depths(i).accepted_tokens() << "/" << usage.depths(i).drafted_tokens();
  }
  if (usage.depths_size() > kDepthsShown) out << " …";
  out << style.reset << "\n";
}

}  // namespace

void PrintDecision(const v1::Decision& decision, const Style& style, std::ostream& out) {
  out << "├─ " << style.bold << (decision.members().empty() ? "router " : "choice ")
      << OneLine(decision.router(), 63) << style.reset << " → " << style.cyan
      << OneLine(decision.node(), 63) << style.reset << "  " << OneLine(decision.reason(), 200)
      << style.dim << "  ("
      << (decision.cached() ? std::string("kept") : Duration(decision.duration_us())) << ", graph v"
      << decision.graph_version() << ")" << style.reset << "\n";
  for (const v1::HeadScore& head : decision.heads()) PrintHead(head, style, out);
  for (const v1::MemberScore& member : decision.members()) PrintMember(member, style, out);
  if (!decision.argument().empty()) {
    out << "│    argument  " << OneLine(decision.argument(), 200) << "\n";
  }
}

std::string TokensAStep(const v1::SpeculationUsage& usage) {
  const double steps = static_cast<double>(std::max<int64_t>(usage.steps(), 1));
  char text[48];
  std::snprintf(text, sizeof(text), "%.2f tokens a step",
                1 + static_cast<double>(usage.accepted_tokens()) / steps);
  return text;
}

void TraceView::EndTokens() {
  if (in_tokens_) out_ << "\n";
  in_tokens_ = false;
}

void TraceView::Add(const v1::GenerateResponse& event) {
  if (!event.has_tokens()) EndTokens();
  switch (event.event_case()) {
    case v1::GenerateResponse::kStarted:
      out_ << style_.dim << "trace " << OneLine(event.started().trace_id(), 64) << ", graph v"
           << event.started().graph_version() << style_.reset << "\n";
      break;
    case v1::GenerateResponse::kDecision:
      PrintDecision(event.decision(), style_, out_);
      break;
    case v1::GenerateResponse::kNodeEntered: {
      const v1::NodeEntered& entered = event.node_entered();
      out_ << "├─ " << style_.bold << entered.step() << ". " << OneLine(entered.kind(), 20) << " "
           << style_.cyan << OneLine(entered.node(), 63) << style_.reset;
      if (!entered.replica().empty()) {
        out_ << style_.dim << " on " << OneLine(entered.replica(), 80) << style_.reset;
      }
      out_ << style_.dim << "  ← " << OneLine(entered.input(), 160) << style_.reset << "\n";
      break;
    }
    case v1::GenerateResponse::kTokens: {
      if (!in_tokens_) out_ << "│    ";
      in_tokens_ = true;
      for (const char c : Printable(event.tokens().text())) {
        out_ << c;
        if (c == '\n') out_ << "│    ";
      }
      out_.flush();
      break;
    }
    case v1::GenerateResponse::kNodeLeft: {
      const v1::NodeLeft& left = event.node_left();
      if (left.code() != 0) {
        out_ << "│    " << style_.red << "failed (" << left.code() << "): " << style_.reset
             << OneLine(left.error(), 300) << "\n";
      }
      out_ << "│    " << style_.dim << Duration(left.duration_us());
      if (left.usage().completion_tokens() > 0) {
        out_ << ", first token after " << Duration(left.first_token_us()) << ", "
             << left.usage().prompt_tokens() << " + " << left.usage().completion_tokens()
             << " tokens, confidence " << Probability(left.confidence());
      }
      out_ << style_.reset << "\n";
      if (left.speculation().drafted_tokens() > 0 || left.speculation().draft_us() > 0) {
        PrintSpeculation(left.speculation(), style_, out_);
      }
      break;
    }
    case v1::GenerateResponse::kEdgeTaken:
      out_ << "├─ " << style_.yellow << "edge on " << ConditionName(event.edge_taken().on())
           << style_.reset << ": " << OneLine(event.edge_taken().from(), 63) << " → "
           << OneLine(event.edge_taken().to(), 63);
      if (!event.edge_taken().reason().empty()) {
        out_ << style_.dim << "  (" << OneLine(event.edge_taken().reason(), 120) << ")"
             << style_.reset;
      }
      out_ << "\n";
      break;
    case v1::GenerateResponse::kEdgeRefused:
      out_ << "├─ " << style_.yellow << "edge on " << ConditionName(event.edge_refused().on())
           << " not taken" << style_.reset << ": " << OneLine(event.edge_refused().from(), 63)
           << " → " << OneLine(event.edge_refused().to(), 63) << style_.dim << "  ("
           << OneLine(event.edge_refused().reason(), 200) << ")" << style_.reset << "\n";
      break;
    case v1::GenerateResponse::kJudged:
      PrintJudged(event.judged(), style_, out_);
      break;
    case v1::GenerateResponse::kLinked:
      PrintLinked(event.linked(), style_, out_);
      break;
    case v1::GenerateResponse::kFinished:
      out_ << "└─ answer from " << style_.cyan << OneLine(event.finished().node(), 63)
           << style_.reset << " after " << Duration(event.finished().duration_us());
      if (event.finished().speculation().drafted_tokens() > 0) {
        out_ << ", " << TokensAStep(event.finished().speculation());
      }
      if (event.finished().has_cached()) {
        out_ << ", kept since " << Duration(event.finished().cached().age_ms() * 1000)
             << " for: " << OneLine(event.finished().cached().query(), 160);
      }
      if (event.finished().finish_reason() == v1::FINISH_REASON_LENGTH) {
        out_ << style_.yellow << ", cut at its token limit" << style_.reset;
      }
      out_ << "\n";
      break;
    case v1::GenerateResponse::EVENT_NOT_SET:
      break;
  }
}

}  // namespace octogate::octoctl
