#include "gateway/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

TEST(MetricsTest, CountsTokensAndNoNegativeNumberOfAPeer) {
  Metrics metrics;
  v1::Usage usage;
  usage.set_prompt_tokens(40);
  usage.set_completion_tokens(5);
  usage.set_cached_tokens(32);
  metrics.OnTokens(usage);
  metrics.OnTokens(usage);
  usage.set_prompt_tokens(-40);
  usage.set_completion_tokens(-5);
  usage.set_cached_tokens(-32);
  metrics.OnTokens(usage);
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("octogate_tokens_total{kind=\"prompt\"} 80\n"));
  EXPECT_THAT(text, HasSubstr("octogate_tokens_total{kind=\"completion\"} 10\n"));
  EXPECT_THAT(text, HasSubstr("octogate_cached_prompt_tokens_total 64\n"));
}

}  // namespace
}  // namespace octogate::gateway
