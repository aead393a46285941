// A sentence encoder, all-MiniLM-L6-v2, on the CPU: the time of one text by the format of the
// weights, and, where OCTOGATE_TEST_DATA names the evaluation data, the quality of the encoder
// head's decisions beside those of the lexical head.
//
// The model is looked for in the folder that OCTOGATE_MINILM names, or where deploy/fetch-minilm.sh
// puts it; without it nothing is measured. A text of N tokens has its special tokens among them.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "router/encoder_head.h"
#include "router/lexical_head.h"
#include "tests/bench/report.h"
#include "tests/router/routing_data.h"
#include "workers/encoder/encoder_runner.h"

namespace octogate {
namespace {

using bench::AtMost;
using kernels::WeightFormat;
using Clock = std::chrono::steady_clock;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::unique_ptr<workers::LoadedEncoder> Load(const std::filesystem::path& folder,
                                             WeightFormat format, int threads) {
  auto loaded = OrExit(workers::LoadEncoder(
      folder, {.encoder = {.weight_format = format}, .device = {.threads = threads}}));
  if (const absl::Status warm = loaded->WarmUp(absl::InfiniteFuture()); !warm.ok()) {
    OrExit<int>(warm);
  }
  return loaded;
}

// A whole call on one core: queue, pass, pooling.
void MeasureTimes(const std::filesystem::path& folder, bench::Report* report) {
  const std::pair<WeightFormat, const char*> formats[] = {{WeightFormat::kStored, "F32"},
                                                          {WeightFormat::kBf16, "BF16"},
                                                          {WeightFormat::kInt8, "INT8"},
                                                          {WeightFormat::kInt8Group, "INT8-group"}};
  for (const auto& [format, name] : formats) {
    const auto loaded = Load(folder, format, /*threads=*/1);
    for (const int tokens : {16, 64, 256}) {
      const std::vector<int32_t> text(static_cast<size_t>(tokens), 2003);
      std::vector<double> times;
      const int rounds = 12'000 / tokens + 20;
      for (int round = 0; round < rounds; ++round) {
        const auto start = Clock::now();
        OrExit(loaded->encoder->Embed({text}, absl::InfiniteFuture()));
        if (round >= 10) times.push_back(1e3 * SecondsSince(start));
      }
      std::sort(times.begin(), times.end());
      bench::Figure figure{.name = absl::StrCat(name, ", ", tokens, " tokens, p50"),
                           .value = times[times.size() / 2],
                           .unit = "ms"};
      if (tokens == 64 && format == WeightFormat::kInt8) figure.aim = AtMost(4);
      report->Add(figure);
      if (tokens == 64) {
        report->Add({.name = absl::StrCat(name, ", ", tokens, " tokens, p99"),
                     .value = times[times.size() * 99 / 100],
                     .unit = "ms"});
      }
    }
  }
}

// The encoder as the router's heads see it, without a queue in between.
class DirectModel final : public router::EmbeddingModel {
 public:
  explicit DirectModel(const workers::LoadedEncoder* loaded) : loaded_(*loaded) {}

  void Embed(const v1::WorkerEmbedRequest& request, const router::CallContext&,
             EmbedDone done) override {
    std::vector<std::vector<int32_t>> texts;
    for (const std::string& input : request.inputs()) {
      texts.push_back(OrExit(loaded_.EncodeText(input, workers::LongText::kCut)));
    }
    const auto vectors = OrExit(loaded_.encoder->Embed(std::move(texts), absl::InfiniteFuture()));
    v1::WorkerEmbedResponse response;
    for (const std::vector<float>& vector : vectors) {
      double squares = 0;
      for (const float value : vector) squares += double{value} * double{value};
      v1::Embedding& embedding = *response.add_embeddings();
      for (const float value : vector) {
        embedding.add_values(static_cast<float>(value / std::sqrt(squares)));
      }
    }
    done(std::move(response));
  }
  absl::StatusOr<std::string> Fingerprint(absl::Time) override {
    return loaded_.checkpoint->ComputeFingerprint().ToHex();
  }

 private:
  const workers::LoadedEncoder& loaded_;
};

void AddQuality(const std::string& name, const router::RoutingQuality& quality,
                const router::RoutingData& data, bench::Report* report) {
  report->Add({.name = name + ", accuracy", .value = 100 * quality.accuracy, .unit = "%"});
  report->Add({.name = name + ", right and at least 0.5 sure",
               .value = 100 * quality.accepted_right,
               .unit = "%"});
  report->Add({.name = name + ", expected calibration error",
               .value = 100 * quality.calibration_error,
               .unit = "%"});
  if (data.outside.empty()) return;
  report->Add({.name = name + ", out of scope and under 0.5 sure",
               .value = 100 * quality.outside_refused,
               .unit = "%"});
}

void MeasureQuality(const std::string& name, const router::RoutingData& data,
                    const std::filesystem::path& folder, bench::Report* report) {
  const auto loaded = Load(folder, WeightFormat::kInt8Group, /*threads=*/0);
  DirectModel model(loaded.get());
  std::cerr << "embedding the examples of " << name << "\n";
  auto start = Clock::now();
  const auto embeddings = OrExit(router::ExampleEmbeddings::Make(
      router::EmbeddingClassifier::TextsOf(data.train), model, absl::InfiniteFuture(), {}));
  report->Add(
      {.name = name + ", embedding all examples", .value = SecondsSince(start), .unit = "s"});
  std::vector<std::string_view> queries;
  for (const auto& [text, label] : data.test) queries.push_back(text);
  queries.insert(queries.end(), data.outside.begin(), data.outside.end());
  const auto known =
      OrExit(router::ExampleEmbeddings::Make(queries, model, absl::InfiniteFuture(), {embeddings}));
  std::cerr << "training on " << name << "\n";
  v1::EncoderHead settings;
  settings.set_epochs(12);
  settings.set_seed(1);
  start = Clock::now();
  const auto classifier = OrExit(router::EmbeddingClassifier::Train(
      settings, data.train, *embeddings, absl::InfiniteFuture()));
  report->Add({.name = name + ", training", .value = SecondsSince(start), .unit = "s"});
  AddQuality(
      name + ", encoder",
      router::Measure(
          [&](const std::string& text, const std::vector<bool>& live, router::HeadScores* scores) {
            classifier->Score({known->Find(text), known->dimension()}, live, scores);
          },
          data, 0.5),
      data, report);
  v1::LexicalHead lexical;
  lexical.set_hash_bits(16);
  lexical.set_epochs(12);
  lexical.set_seed(1);
  const auto head = OrExit(router::LexicalHead::Train(lexical, data.train, absl::InfiniteFuture()));
  AddQuality(name + ", lexical", router::Measure(*head, data, 0.5), data, report);
  // The cascade: the encoder is asked where the lexical head is less than 0.8 sure.
  int asked = 0;
  const router::RoutingQuality both = router::Measure(
      [&](const std::string& text, const std::vector<bool>& live, router::HeadScores* scores) {
        head->Score(text, live, scores);
        const float best =
            *std::max_element(scores->probabilities.begin(), scores->probabilities.end());
        if (best * scores->live_probability >= 0.8) return;
        ++asked;
        classifier->Score({known->Find(text), known->dimension()}, live, scores);
      },
      data, 0.5);
  AddQuality(name + ", lexical then encoder", both, data, report);
  report->Add({.name = name + ", share that asks the encoder",
               .value = 100.0 * asked / static_cast<double>(queries.size()),
               .unit = "%"});
}

int Main(int argc, char** argv) {
  bench::Report report("encoder", argc, argv);
  const char* named = std::getenv("OCTOGATE_MINILM");
  const std::filesystem::path folder =
      named != nullptr ? std::filesystem::path(named)
                       : std::filesystem::path(OCTOGATE_MODELS) / "all-MiniLM-L6-v2";
  if (!std::filesystem::exists(folder / "model.safetensors")) {
    std::cerr << folder
              << " holds no model; deploy/fetch-minilm.sh brings it. Nothing is measured.\n";
    return report.Print();
  }
  MeasureTimes(folder, &report);
  if (const auto data = router::TestDataFolder()) {
    MeasureQuality("CLINC150", router::ReadClinc150(*data), folder, &report);
    MeasureQuality("MMLU-Pro", router::ReadMmluPro(*data), folder, &report);
  } else {
    std::cerr << "OCTOGATE_TEST_DATA is not set: the quality is not measured\n";
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate

int main(int argc, char** argv) { return octogate::Main(argc, argv); }
