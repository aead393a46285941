#ifndef OCTOGATE_GATEWAY_TOOLS_TOOL_H_
#define OCTOGATE_GATEWAY_TOOLS_TOOL_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

// The seam behind a graph's `kind: tool` nodes: something that turns the query the router
// rewrote into a text answer inside this process.

namespace octogate::gateway {

// What one call may use.
struct ToolContext {
  // The only clock a tool reads; tests fix it.
  std::function<absl::Time()> now = [] { return absl::Now(); };
  // On the same clock. A tool that passes it stops with DEADLINE_EXCEEDED.
  absl::Time deadline = absl::InfiniteFuture();
  // A longer answer is an error (RESOURCE_EXHAUSTED), or is shortened where the tool can say that
  // it did so.
  size_t max_output_bytes = size_t{64} << 10;
  // The zone of a local time that names none, unless the node's own parameters set one.
  absl::TimeZone default_time_zone = absl::UTCTimeZone();
};

// Immutable once made: Run may be called from any number of threads at once. A tool answers or
// refuses, never guesses: an argument it does not understand is INVALID_ARGUMENT with the place
// and what would be right; a limit is RESOURCE_EXHAUSTED and names the limit.
class Tool {
 public:
  virtual ~Tool() = default;

  // `argument` is hostile: any bytes of any length. Work and memory are bounded before they are
  // spent.
  virtual absl::StatusOr<std::string> Run(std::string_view argument,
                                          const ToolContext& context) const = 0;

  // The name a graph selects it by, e.g. "calculator".
  virtual std::string_view name() const = 0;

  // One paragraph for people and for routers that read descriptions.
  virtual std::string_view description() const = 0;
};

using ToolParameters = std::map<std::string, std::string>;

struct ToolParameterInfo {
  std::string name;
  std::string description;  // With the unit and the default.
  bool required = false;
};

// A kind of tool that a graph may name.
struct ToolInfo {
  std::string name;
  std::string description;
  std::vector<ToolParameterInfo> parameters;
  std::function<absl::StatusOr<std::unique_ptr<Tool>>(const ToolParameters&)> make;
};

// Every built-in tool, in name order.
std::vector<ToolInfo> BuiltinTools();

// The built-in tool `name`, configured by a node's `parameters`. An unknown name, an unknown or
// missing parameter and a bad value are INVALID_ARGUMENT and list what is known.
absl::StatusOr<std::unique_ptr<Tool>> MakeTool(std::string_view name,
                                               const ToolParameters& parameters);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TOOLS_TOOL_H_
