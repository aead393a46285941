// Any text is a valid graph, which then survives being written and read, or has errors with places.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "google/protobuf/util/message_differencer.h"
#include "router/graph_manifest.h"
#include "router/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace octogate::router;  // NOLINT(google-build-using-namespace)
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto manifest = ParseGraphManifest(text, "fuzz.yaml");
  if (!manifest.ok()) {
    if (manifest.status().message().substr(0, 9) != "fuzz.yaml") std::abort();
    return 0;
  }
  if (WorstCaseSteps(manifest->graph) < 1) std::abort();
  const auto again = ParseGraphManifest(GraphToYaml(manifest->graph), "canonical.yaml");
  if (!again.ok() ||
      !google::protobuf::util::MessageDifferencer::Equals(manifest->graph, again->graph)) {
    std::abort();
  }
  return 0;
}
