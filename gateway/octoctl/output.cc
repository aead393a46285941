#include "gateway/octoctl/output.h"

#include <google/protobuf/util/json_util.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <utility>

namespace octogate::octoctl {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes of the well-formed UTF-8 character at `text`'s start; 0 if there is none.
size_t CharacterLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) > 0x9F) ||
      (lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) > 0x8F)) {
    return 0;
  }
  return length;
}

bool IsControl(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return (lead < 0x20 && lead != '\n' && lead != '\t') || lead == 0x7F;
  // C1 controls, and the marks that reorder text for display.
  if (lead == 0xC2) return static_cast<unsigned char>(character[1]) < 0xA0;
  return character >= "\xE2\x80\xAA" && character <= "\xE2\x80\xAE";
}

size_t CharacterCount(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

void SetBlockStyle(YAML::Node node) {
  if (node.IsMap()) {
    node.SetStyle(YAML::EmitterStyle::Block);
    for (auto entry : node) SetBlockStyle(entry.second);
  } else if (node.IsSequence()) {
    node.SetStyle(node.size() == 0 ? YAML::EmitterStyle::Flow : YAML::EmitterStyle::Block);
    for (auto entry : node) SetBlockStyle(entry);
  }
}

std::string JsonToYaml(const std::string& json) {
  YAML::Node node = YAML::Load(json);
  SetBlockStyle(node);
  YAML::Emitter emitter;
  emitter << node;
  return std::string(emitter.c_str()) + "\n";
}

}  // namespace

std::string Printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    if (length == 0 || IsControl(text.substr(0, length))) {
      result.append(kReplacement);
    } else {
      result.append(text.substr(0, length));
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return result;
}

std::string OneLine(std::string_view text, size_t max_characters) {
  std::string line = Printable(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::replace(line.begin(), line.end(), '\t', ' ');
  if (CharacterCount(line) <= max_characters) return line;
  size_t end = 0;
  for (size_t count = 0; count + 1 < max_characters; ++count) {
    end += CharacterLength(std::string_view(line).substr(end));
  }
  return line.substr(0, end) + "…";
}

Table::Table(std::vector<std::string> headings) { rows_.push_back(std::move(headings)); }

void Table::Add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = cell.empty() ? "-" : OneLine(cell, 120);
  rows_.push_back(std::move(row));
}

void Table::Print(std::ostream& out) const {
  std::vector<size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], CharacterCount(row[i]));
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      out << row[i];
      if (i + 1 < row.size()) out << std::string(widths[i] - CharacterCount(row[i]) + 2, ' ');
    }
    out << "\n";
  }
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(message, &json, options).ok()) return "{}\n";
  return json;
}

std::string ToYaml(const google::protobuf::Message& message) { return JsonToYaml(ToJson(message)); }

bool PrintStructured(const google::protobuf::Message& message, Format format) {
  if (format == Format::kJson) std::cout << ToJson(message);
  if (format == Format::kYaml) std::cout << ToYaml(message);
  return format == Format::kJson || format == Format::kYaml;
}

void PrintJson(const std::string& json, Format format) {
  std::cout << (format == Format::kYaml ? JsonToYaml(json) : json);
}

bool PrintStructured(const google::protobuf::Message& message, std::string_view name,
                     const google::protobuf::Message& extra, Format format) {
  if (format != Format::kJson && format != Format::kYaml) return false;
  std::string json = ToJson(message);
  json.erase(json.find_last_of('}'));
  while (!json.empty() && (json.back() == '\n' || json.back() == ' ')) json.pop_back();
  if (json.back() != '{') json += ',';
  json += "\n \"" + std::string(name) + "\": " + ToJson(extra) + "}\n";
  std::cout << (format == Format::kJson ? json : JsonToYaml(json));
  return true;
}

std::string Duration(int64_t microseconds) {
  char text[32];
  if (microseconds < 1000) {
    std::snprintf(text, sizeof(text), "%ld µs", static_cast<long>(microseconds));
  } else if (microseconds < 1'000'000) {
    std::snprintf(text, sizeof(text), "%.3g ms", static_cast<double>(microseconds) / 1e3);
  } else {
    std::snprintf(text, sizeof(text), "%.3g s", static_cast<double>(microseconds) / 1e6);
  }
  return text;
}

std::string LocalTime(int64_t milliseconds) {
  const std::time_t seconds = milliseconds / 1000;
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
  return text;
}

Style StandardOutputStyle() {
  if (isatty(STDOUT_FILENO) == 0 || std::getenv("NO_COLOR") != nullptr) return {};
  return {"\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[36m", "\x1b[0m"};
}

Progress::Progress(std::string what) : what_(std::move(what)) {
  if (isatty(STDERR_FILENO) != 0) thread_ = std::thread([this] { Run(); });
}

void Progress::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Progress::Run() {
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  bool shown = false;
  while (!changed_.wait_for(lock, std::chrono::seconds(1), [this] { return stopped_; })) {
    const auto seconds =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin)
            .count();
    shown = true;
    std::cerr << "\r\x1b[K" << what_ << " … " << seconds << " s" << std::flush;
  }
  if (shown) std::cerr << "\r\x1b[K" << std::flush;
}

}  // namespace octogate::octoctl
