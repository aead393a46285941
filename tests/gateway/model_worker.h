// A worker inside the test that serves a real (tiny) model.
#ifndef OCTOGATE_TESTS_GATEWAY_MODEL_WORKER_H_
#define OCTOGATE_TESTS_GATEWAY_MODEL_WORKER_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/engine/model_runner.h"
#include "workers/server/model_service.h"
#include "workers/server/worker_server.h"

namespace octogate::gateway {

class ModelWorker {
 public:
  explicit ModelWorker(const std::string& path) {
    workers::LoadOptions options;
    options.device.threads = 1;
    auto loaded = workers::LoadModel(path, options);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (!loaded.ok()) return;
    auto server = workers::WorkerServer::Start(
        "127.0.0.1:0", std::make_unique<workers::ModelService>("served", *std::move(loaded)));
    EXPECT_TRUE(server.ok()) << server.status();
    if (server.ok()) server_ = *std::move(server);
  }

  // Where the graph finds its model.
  std::string manifest() const {
    return absl::StrCat("workers: [\"127.0.0.1:", server_ == nullptr ? 0 : server_->port(), "\"]");
  }

 private:
  std::unique_ptr<workers::WorkerServer> server_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_MODEL_WORKER_H_
