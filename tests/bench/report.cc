#include "tests/bench/report.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>
#include <utility>

namespace octogate::bench {
namespace {

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

std::string AimText(const Aim& aim) {
  return std::string(aim.subject == Aim::kRatio ? "ratio " : "") + (aim.at_least ? ">= " : "<= ") +
         Number(aim.bound);
}

// "-", "1.02", or "1.02 (0.97 to 1.05)".
std::string RatioText(const Figure& figure) {
  if (!figure.ratio) return "-";
  std::string text = Number(*figure.ratio);
  if (figure.ratio_between) {
    const auto& [low, high] = *figure.ratio_between;
    text += " (" + Number(low) + " to " + Number(high) + ")";
  }
  return text;
}

std::string Machine() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line;
  std::string model = "unknown processor";
  while (std::getline(cpuinfo, line)) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      model = line.substr(colon + 2);
      break;
    }
  }
  model += ", " + std::to_string(std::thread::hardware_concurrency()) + " cores";
  const char* device = std::getenv("OCTOGATE_DEVICE");
  return device != nullptr ? std::string(device) + " (" + model + ")" : model;
}

// tests/bench/run.sh passes the commit: the program itself cannot know it.
std::string Commit() {
  const char* commit = std::getenv("OCTOGATE_COMMIT");
  return commit != nullptr ? commit : "unknown";
}

std::string Date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

}  // namespace

Aim AtLeast(double bound, Aim::Subject subject) { return {subject, true, bound}; }
Aim AtMost(double bound, Aim::Subject subject) { return {subject, false, bound}; }

std::optional<bool> Met(const Figure& figure) {
  if (!figure.aim) return std::nullopt;
  if (figure.aim->subject == Aim::kRatio && !figure.ratio) return std::nullopt;
  const double subject = figure.aim->subject == Aim::kRatio ? *figure.ratio : figure.value;
  return figure.aim->at_least ? subject >= figure.aim->bound : subject <= figure.aim->bound;
}

Report::Report(std::string bench, int argc, char** argv) : bench_(std::move(bench)) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    constexpr std::string_view kJsonTo = "--json-to=";
    if (argument == "--json") json_ = true;
    if (argument.substr(0, kJsonTo.size()) == kJsonTo) {
      json_path_ = argument.substr(kJsonTo.size());
    }
  }
}

void Report::Add(Figure figure) {
  figures_.push_back(std::move(figure));
  if (!json_path_.empty()) WriteJson();
}

int Report::Print() const {
  if (json_) {
    std::printf("%s\n", Json().c_str());
  } else {
    PrintTable();
  }
  if (json_path_.empty() || WriteJson()) return 0;
  std::fprintf(stderr, "cannot write %s\n", json_path_.c_str());
  return 1;
}

bool Report::WriteJson() const {
  const std::string part = json_path_ + ".part";
  std::ofstream file(part);
  file << Json() << "\n";
  file.close();
  return file && std::rename(part.c_str(), json_path_.c_str()) == 0;
}

void Report::PrintTable() const {
  size_t name_width = 6;
  size_t ratio_width = 8;
  size_t beside_width = 6;
  for (const Figure& figure : figures_) {
    name_width = std::max(name_width, figure.name.size());
    ratio_width = std::max(ratio_width, RatioText(figure).size());
    beside_width = std::max(beside_width, figure.beside.size());
  }
  std::printf("%s at %s on %s, %s\n", bench_.c_str(), Commit().c_str(), Machine().c_str(),
              Date().c_str());
  if (!kind_.empty()) std::printf("All figures: %s.\n", kind_.c_str());
  std::printf("%-*s  %10s %-11s %*s  %-*s  %-14s %s\n", static_cast<int>(name_width), "FIGURE",
              "VALUE", "UNIT", static_cast<int>(ratio_width), "RATIO",
              static_cast<int>(beside_width), "BESIDE", "AIM", "MET");
  for (const Figure& figure : figures_) {
    const std::optional<bool> met = Met(figure);
    std::printf("%-*s  %10s %-11s %*s  %-*s  %-14s %s\n", static_cast<int>(name_width),
                figure.name.c_str(), Number(figure.value).c_str(), figure.unit.c_str(),
                static_cast<int>(ratio_width), RatioText(figure).c_str(),
                static_cast<int>(beside_width), figure.beside.empty() ? "-" : figure.beside.c_str(),
                figure.aim ? AimText(*figure.aim).c_str() : "-",
                !met ? "-" : (*met ? "yes" : "NO"));
  }
}

std::string Report::Json() const {
  using Object = nlohmann::ordered_json;
  Object object;
  object["bench"] = bench_;
  if (!kind_.empty()) object["kind"] = kind_;
  object["commit"] = Commit();
  object["machine"] = Machine();
  object["date"] = Date();
  object["figures"] = Object::array();
  for (const Figure& figure : figures_) {
    const std::optional<bool> met = Met(figure);
    Object row;
    row["name"] = figure.name;
    row["value"] = figure.value;
    row["unit"] = figure.unit;
    row["beside"] = figure.beside.empty() ? Object() : Object(figure.beside);
    row["ratio"] = figure.ratio ? Object(*figure.ratio) : Object();
    if (figure.ratio_between) {
      row["ratio_between"] = {figure.ratio_between->first, figure.ratio_between->second};
    }
    row["aim"] = figure.aim ? Object(AimText(*figure.aim)) : Object();
    row["met"] = met ? Object(*met) : Object();
    object["figures"].push_back(std::move(row));
  }
  return object.dump(-1, ' ', false, Object::error_handler_t::replace);
}

}  // namespace octogate::bench
