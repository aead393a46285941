#include "gateway/octoctl/explanation_view.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

namespace octogate::octoctl {
namespace {

constexpr double kLargestExponent = 300;

std::string Fixed(double value, int digits, bool sign = false) {
  char text[64];
  std::snprintf(text, sizeof(text), sign ? "%+.*f" : "%.*f", digits, value);
  return text;
}

// "12.3 times".
std::string Times(double log_ratio) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g times", std::exp(std::min(log_ratio, kLargestExponent)));
  return text;
}

std::string_view NameOf(v1::FeatureKind kind) {
  switch (kind) {
    case v1::FEATURE_KIND_WORD:
      return "word";
    case v1::FEATURE_KIND_PAIR:
      return "words";
    case v1::FEATURE_KIND_RUN:
      return "characters of an unknown word";
    default:
      return "feature";
  }
}

void PrintHead(const v1::HeadExplanation& head, const Style& style, std::ostream& out) {
  if (head.node().empty()) return;
  // Where "none of these" is more probable than the best token, that is what has to be explained.
  const bool turned = head.log_ratio() < 0;
  const double sign = turned ? -1 : 1;
  out << "│    why " << head.head() << " finds " << style.cyan
      << OneLine(turned ? head.against() : head.node(), 63) << style.reset << " "
      << Times(sign * head.log_ratio()) << " as probable as " << style.cyan
      << OneLine(turned ? head.node() : head.against(), 63) << style.reset << "\n│      "
      << style.dim << "confidence " << Fixed(head.confidence(), 3) << " in "
      << OneLine(head.node(), 63) << ", needed " << Fixed(head.threshold(), 3);
  if (head.has_risk()) out << " for a risk of " << Fixed(head.risk(), 3);
  if (head.temperature() > 0) out << "; temperature " << Fixed(head.temperature(), 2);
  out << "; log ratio " << Fixed(sign * head.log_ratio(), 2);
  for (int i = 0; i < head.parts_size(); ++i) {
    out << (i == 0 ? " = " : ", ") << Fixed(sign * head.parts(i).contribution(), 2, true) << " "
        << OneLine(head.parts(i).source(), 20);
  }
  out << style.reset << "\n";
  for (const v1::FeatureContribution& feature : head.features()) {
    const double contribution = sign * feature.contribution();
    out << "│      " << (contribution >= 0 ? style.green : style.red)
        << Fixed(contribution, 2, true) << style.reset << "  '" << OneLine(feature.text(), 60)
        << "'" << style.dim << "  " << NameOf(feature.kind());
    if (feature.count() > 1) out << ", " << feature.count() << " times";
    out << style.reset << "\n";
  }
  if (head.further_features() > 0) {
    out << "│      " << style.dim << "… and " << head.further_features() << " that matter less"
        << style.reset << "\n";
  }
  for (const v1::NearestExample& example : head.examples()) {
    out << "│      " << style.dim << "at " << Fixed(example.distance(), 3) << style.reset << "  "
        << style.cyan << OneLine(example.node(), 63) << style.reset << "  "
        << OneLine(example.text(), 100) << "\n";
  }
}

}  // namespace

void PrintExplanation(const v1::ExplainedDecision& explained, const Style& style,
                      std::ostream& out) {
  const v1::Decision& decision = explained.decision();
  if (!explained.recorded_node().empty() && explained.recorded_node() != decision.node()) {
    out << "│    " << style.yellow << "by scores alone, graph v" << decision.graph_version()
        << " decides for " << OneLine(decision.node(), 63) << " now" << style.reset << ": "
        << OneLine(decision.reason(), 200) << "\n";
  }
  for (const v1::HeadExplanation& head : explained.heads()) PrintHead(head, style, out);
}

}  // namespace octogate::octoctl
