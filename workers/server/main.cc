// octogate-worker: serves one model to gateways over gRPC.

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/dtype.h"
#include "retrieval/drafts/near_index.h"
#include "workers/engine/device.h"
#include "workers/engine/format_names.h"
#include "workers/server/load_served_model.h"
#include "workers/server/termination.h"
#include "workers/server/worker_drafts.h"
#include "workers/server/worker_pages.h"
#include "workers/server/worker_server.h"
#include "workers/server/worker_store.h"
#include "workers/speculation/drafter_factory.h"

namespace octogate::workers {
namespace {

struct Flags {
  std::string model;
  std::string name;
  std::string listen = "127.0.0.1:7071";
  std::string device = "auto";
  double grace_seconds = 30;
  std::string kv_dtype;
  double memory_limit_gib = 0;
  double swap_gib = 0;
  double step_cost_seconds = 1;
  double draft_memory_gib = 0.5;
  bool speculate = false;
  SpeculationOptions speculation;
  std::vector<std::string> datastores;
  std::vector<std::string> tenant_datastores;  // TENANT=FILE
  WorkerStoreFlags store;
  std::optional<double> max_step_slowdown;
  LoadOptions load;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  octogate-worker --model deploy/models/octogate-mini\n"
    "  octogate-worker --model /models/llama --listen 0.0.0.0:7071 --threads 8\n"
    "\n"
    "Exit status: 0 after a clean end, 1 where the model cannot be served, 2 for wrong flags.";

template <typename T, size_t N>
std::map<std::string, T> ByName(const T (&values)[N]) {
  std::map<std::string, T> named;
  for (const T value : values) named[kernels::Name(value)] = value;
  return named;
}

void Define(CLI::App& app, Flags& flags) {
  app.add_option("--model", flags.model, "Hugging Face folder to serve")->required();
  app.add_option("--name", flags.name, "name to serve it under (default: the folder's name)");
  app.add_option("--listen", flags.listen, "host:port; port 0 picks one")->capture_default_str();
  app.add_option("--device", flags.device,
                 "auto (a GPU where one answers), cpu, or cuda (a GPU or nothing; cuda:1 is the "
                 "second)")
      ->check(WhyNoDevice)
      ->capture_default_str();
  app.add_option(
         "--threads", flags.load.device.threads,
         "compute threads where the CPU serves; 0: one for each CPU that the process may use, "
         "by its group's quota too")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--pin-threads", flags.load.device.pin_threads,
               "keep each compute thread on a CPU of its own; for machines that do nothing else");
  app.add_option("--max-sequences", flags.load.engine.max_sequences,
                 "sequences that run at the same time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--max-waiting", flags.load.engine.max_waiting,
                 "requests that wait; more are refused")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--kv-tokens", flags.load.engine.kv_tokens,
                 "positions of the KV cache; 0: as many as needed and possible")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--weight-format", flags.load.engine.weight_format,
                 "how weights are kept: stored, bf16, int8, int8-group, int4-group or fp8")
      ->transform(CLI::CheckedTransformer(ByName(kernels::kWeightFormats), CLI::ignore_case)
                      .description(""))
      ->default_str("stored");
  app.add_option("--activations", flags.load.device.activations,
                 "what BF16 weights are multiplied with: f32, or, which costs precision, bf16 "
                 "(reads prompts many times faster with AMX; on a GPU of all weights but f32, and "
                 "half the work of its tensor cores) or bf16-pairs (CPUs alone, twice as fast with "
                 "AVX512_BF16; of fp8 weights, too)")
      ->transform(
          CLI::CheckedTransformer(ByName(kernels::kActivations), CLI::ignore_case).description(""))
      ->default_str("f32");
  app.add_option(
         "--kv-dtype", flags.kv_dtype,
         "how keys and values are kept: f32, f16, bf16, fp8 or int8 (default: f32 where the "
         "CPU serves, bf16 on a GPU)")
      ->transform(
          CLI::IsMember({"f32", "f16", "bf16", "fp8", "int8"}, CLI::ignore_case).description(""));
  app.add_option("--memory-limit", flags.memory_limit_gib,
                 "GiB for weights, KV cache, activations and swap space; 0: what is available")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--swap-space", flags.swap_gib,
                 "GiB of host memory for what preempted sequences have computed; 0: they compute "
                 "it again, as they do where that is measured to be faster")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--max-context", flags.load.engine.max_context,
                 "tokens of the longest sequence; 0: what the checkpoint allows")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  app.add_option("--step-cost-time", flags.step_cost_seconds,
                 "seconds to measure at start what steps cost; 0: do not")
      ->check(CLI::Range(0.0, 60.0))
      ->capture_default_str();
  app.add_option("--max-step-slowdown", flags.max_step_slowdown,
                 "a step with prompts takes at most so many times what the sequences that decode "
                 "would take alone, by what steps were measured to cost; 0: no limit, as without "
                 "--step-cost-time")
      ->check(CLI::Range(0.0, 1e6))
      ->default_str(absl::StrCat(EngineOptions::kUsualStepSlowdown));
  CLI::Option* const speculate =
      app.add_flag("--speculate", flags.speculate,
                   "verify drafts of answers, many tokens in a pass; answers do not change");
  app.add_option("--drafter", flags.speculation.drafters,
                 "what proposes drafts: recycling, suffix, lookahead, retrieval or model; may be "
                 "repeated (default: recycling and suffix, and what the flags below are for)")
      ->needs(speculate);
  app.add_option("--max-drafted-tokens", flags.speculation.max_draft_nodes,
                 "drafted tokens of a sequence in a pass, at most; how many it has is decided by "
                 "what steps cost, which --step-cost-time measures")
      ->check(CLI::Range(1, kMaxDraftNodes))
      ->needs(speculate)
      ->capture_default_str();
  app.add_flag("--share-drafts", flags.speculation.share_between_tenants,
               "drafters use for each tenant what they learned from others, who may tell by the "
               "time that answers take what was asked")
      ->needs(speculate);
  app.add_option("--draft-datastore", flags.datastores,
                 "file that octoctl drafts build has made; may be repeated")
      ->needs(speculate);
  app.add_option("--tenant-datastore", flags.tenant_datastores,
                 "TENANT=FILE: such a file that drafts for this tenant alone; may be repeated")
      ->check(CLI::Validator(
          [](const std::string& value) {
            const size_t end = value.find('=');
            const bool right = end != std::string::npos && end > 0 && end + 1 < value.size();
            return right ? std::string() : "'" + value + "' is no TENANT=FILE";
          },
          ""))
      ->needs(speculate);
  app.add_flag("--draft-near-matches", flags.speculation.near_matches,
               "draft from contexts like the answer's, too, where none is equal for long; every "
               "datastore has the file that octoctl drafts build --near-matches makes")
      ->needs(speculate);
  app.add_option("--draft-model", flags.speculation.draft_model,
                 "Hugging Face folder of a small model with the same tokenizer")
      ->needs(speculate);
  app.add_option("--draft-threads", flags.speculation.draft_threads,
                 "threads of the CPU that the draft model has to itself: it drafts on while a pass "
                 "verifies; for CPUs that --threads leaves idle, as beside a GPU")
      ->check(CLI::Range(0, SpeculationOptions::kMaxDraftThreads))
      ->needs(speculate)
      ->capture_default_str();
  app.add_option("--draft-head", flags.speculation.draft_head,
                 "folder of a head that drafts from the model's hidden states; it is checked, and "
                 "this release cannot draft with it")
      ->needs(speculate);
  app.add_option("--recycling-candidates", flags.speculation.recycling_candidates,
                 "candidates of a token that recycling keeps; each takes 4 bytes for every token "
                 "of the vocabulary")
      ->check(CLI::Range(1, kMaxRecyclingRow))
      ->needs(speculate)
      ->capture_default_str();
  app.add_option("--recycling-pairs", flags.speculation.recycling_pairs,
                 "pairs of tokens that recycling keeps candidates of, too; each takes 16 bytes and "
                 "4 for each candidate; 0: none")
      ->check(CLI::Range(0, kMaxRecyclingPairs))
      ->needs(speculate)
      ->capture_default_str();
  app.add_option("--recycling-tree", flags.speculation.recycling_tree,
                 "shape of recycling's trees: best-first, fixed (80 nodes) or planned (learned "
                 "from what was right)")
      ->needs(speculate)
      ->capture_default_str();
  app.add_option("--prune-retrieved-below", flags.speculation.prune_retrieved_below,
                 "drop what retrieval drafts where the draft model finds it less probable; 0: "
                 "nothing")
      ->check(CLI::Range(0.0, 0.99))
      ->needs(speculate)
      ->capture_default_str();
  app.add_option(
         "--draft-memory", flags.draft_memory_gib,
         "GiB that what each drafter has learned may take; beyond it, and beyond 1024 "
         "tenants, those are forgotten first that have asked nothing for longest; the draft "
         "model's weights and its 256 MiB of keys and values are no part of it")
      ->check(CLI::Range(0.0, 1e6))
      ->needs(speculate)
      ->capture_default_str();
  app.add_option(
         "--draft-state", flags.speculation.state,
         "folder that keeps what drafters have learned; --store shares it with other workers")
      ->needs(speculate);
  DefineWorkerStoreFlags(app, flags.store);
  app.add_option("--grace", flags.grace_seconds,
                 "seconds that answers under way get when the worker is stopped")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  app.footer(kExamples);
}

int Fail(const absl::Status& status) {
  spdlog::error("{}", std::string(status.message()));
  return 1;
}

int Serve(Flags flags) {
  std::filesystem::path folder(flags.model);
  if (!folder.has_filename()) folder = folder.parent_path();
  if (flags.name.empty()) flags.name = folder.filename().string();
  flags.speculation.memory_bytes =
      static_cast<uint64_t>(flags.draft_memory_gib * (uint64_t{1} << 30));
  flags.load.engine.memory_limit_bytes =
      static_cast<uint64_t>(flags.memory_limit_gib * (uint64_t{1} << 30));
  flags.load.engine.kv_dtype = ParseKvDtype(flags.kv_dtype);
  flags.load.engine.swap_bytes = static_cast<uint64_t>(flags.swap_gib * (uint64_t{1} << 30));
  flags.load.engine.step_cost_time = absl::Seconds(flags.step_cost_seconds);
  flags.load.engine.max_step_slowdown = flags.max_step_slowdown.value_or(
      flags.step_cost_seconds > 0 ? EngineOptions::kUsualStepSlowdown : 0);
  // Every running sequence has a row.
  flags.load.engine.max_rows_per_step =
      std::max(flags.load.engine.max_rows_per_step, flags.load.engine.max_sequences);

  if (flags.speculate) {
    auto drafts = OpenWorkerDrafts(flags.store);
    if (!drafts.ok()) return Fail(drafts.status());
    flags.speculation.shared = *std::move(drafts);
    for (const std::string& path : flags.datastores) {
      flags.speculation.datastores.push_back({.path = path, .tenant = ""});
    }
    for (const std::string& value : flags.tenant_datastores) {
      const size_t end = value.find('=');
      flags.speculation.datastores.push_back(
          {.path = value.substr(end + 1), .tenant = value.substr(0, end)});
    }
    flags.speculation.open_near_matches = retrieval::OpenNearMatches;
    flags.load.speculation = SetUpSpeculation(flags.speculation);
  }
  const DeviceName device = ParseDevice(flags.device).value_or(DeviceName());
  flags.load.device.device = device.device;
  flags.load.device.gpu = device.gpu;

  auto pages = OpenWorkerPages(flags.store);
  if (!pages.ok()) return Fail(pages.status());
  flags.load.engine.make_page_store = *std::move(pages);

  spdlog::info("loading {}", folder.string());
  auto model = LoadServedModel(flags.name, folder, flags.load, absl::Now() + absl::Minutes(10));
  if (!model.ok()) return Fail(model.status());
  if (!(*model)->no_gpu().empty()) {
    spdlog::info("the CPU serves, since no GPU can be used: {}", (*model)->no_gpu());
  }
  if (const std::string slow = (*model)->slow_attention(); !slow.empty()) spdlog::info("{}", slow);
  const WeightReport& weights = (*model)->weight_report();
  if (weights.worst_error > 0) spdlog::info("{}", Describe(weights));
  auto server = WorkerServer::Start(flags.listen, *std::move(model));
  if (!server.ok()) return Fail(server.status());
  const v1::WorkerInfoResponse info = (*server)->model().Info();
  spdlog::info("serving {} ({}{}, {} parameters, context {}) on port {}, {}", info.model(),
               info.family(), info.kind() == v1::MODEL_KIND_ENCODER ? " encoder" : "",
               info.parameters(), info.context_length(), (*server)->port(), info.backend());

  const int signal = WaitForTermination();
  spdlog::info("signal {}: {} answers under way, {} s of grace", signal,
               (*server)->model().Info().running(), flags.grace_seconds);
  (*server)->Shutdown(absl::Seconds(flags.grace_seconds));
  return 0;
}

int Main(int argc, char** argv) {
  BlockTerminationSignals();
  spdlog::set_default_logger(spdlog::stderr_color_mt("octogate-worker"));
  Flags flags;
  CLI::App app("octogate-worker serves one model to gateways over gRPC.");
  app.set_version_flag("--version", OCTOGATE_VERSION);
  Define(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return Serve(std::move(flags));
}

}  // namespace
}  // namespace octogate::workers

int main(int argc, char** argv) {
  try {
    return octogate::workers::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "octogate-worker: " << error.what() << "\n";
    return 1;
  }
}
