// A gateway inside the test that has real (tiny) models in its own process.
#ifndef OCTOGATE_TESTS_GATEWAY_MODEL_GATEWAY_H_
#define OCTOGATE_TESTS_GATEWAY_MODEL_GATEWAY_H_

#include <string>
#include <utility>

#include "absl/time/time.h"
#include "gateway/in_process_model_client.h"
#include "tests/gateway/test_gateway.h"
#include "workers/engine/model_runner.h"

namespace octogate::gateway {

inline std::string FixtureCheckpoints() { return std::string(OCTOGATE_FIXTURES) + "/checkpoints"; }
inline std::string FixtureEncoders() { return std::string(OCTOGATE_FIXTURES) + "/encoders"; }

// A base, for models outlive the gateway.
struct ModelFolder {
  ModelFolder(const std::string& folder, workers::LoadOptions load)
      : worker({.model_root = folder, .load = std::move(load)}) {}
  InProcessWorker worker;
};

class ModelGateway : private ModelFolder, public TestGateway {
 public:
  // A model's path in the graph is below `folder`. Models have one thread where `load` names none.
  explicit ModelGateway(const std::string& folder, workers::LoadOptions load = {},
                        ServerOptions options = {})
      : ModelFolder(folder, WithThreads(std::move(load))),
        TestGateway(WithModels(std::move(options), &worker)) {}

 private:
  static workers::LoadOptions WithThreads(workers::LoadOptions load) {
    if (load.device.threads == 0) load.device.threads = 1;
    return load;
  }
  static ServerOptions WithModels(ServerOptions options, InProcessWorker* worker) {
    options.load_model = [worker](const v1::Model& model, absl::Time deadline) {
      return worker->Load(model, deadline);
    };
    return options;
  }
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_MODEL_GATEWAY_H_
