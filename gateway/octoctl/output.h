// How octoctl prints: tables, JSON, YAML, colours and progress.
//
// Text from the gateway may come from a model or a stranger: Printable() takes
// away what could steer a terminal, and every table goes through it.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_OUTPUT_H_
#define OCTOGATE_GATEWAY_OCTOCTL_OUTPUT_H_

#include <google/protobuf/message.h>

#include <condition_variable>
#include <mutex>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace octogate::octoctl {

enum class Format { kTable, kWide, kJson, kYaml, kName };

// `text` with control characters other than newline and tab, C1 controls and
// ill-formed UTF-8 replaced by U+FFFD.
std::string Printable(std::string_view text);
// The same on one line, cut to `max_characters` with an ellipsis.
std::string OneLine(std::string_view text, size_t max_characters);

// Aligned columns under upper-case headings, two spaces between them.
class Table {
 public:
  explicit Table(std::vector<std::string> headings);
  void Add(std::vector<std::string> row);
  void Print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// The message as proto3 JSON, indented, with fields at their defaults.
std::string ToJson(const google::protobuf::Message& message);
// The same as YAML.
std::string ToYaml(const google::protobuf::Message& message);

// Prints `message` to standard output where `format` is JSON or YAML; whether it
// did.
bool PrintStructured(const google::protobuf::Message& message, Format format);

// Prints JSON text to standard output, as YAML where `format` is that.
void PrintJson(const std::string& json, Format format);

// The same as PrintStructured with one field more, `name`, which is not in the message's own type.
bool PrintStructured(const google::protobuf::Message& message, std::string_view name,
                     const google::protobuf::Message& extra, Format format);

// "850 µs", "41 ms", "2.3 s".
std::string Duration(int64_t microseconds);
// "2026-01-31 14:05:09" in local time.
std::string LocalTime(int64_t milliseconds);

// Escape sequences, or empty strings where standard output is not a terminal or
// NO_COLOR is set.
struct Style {
  std::string bold, dim, green, yellow, red, cyan, reset;
};
Style StandardOutputStyle();

// Says on standard error, if that is a terminal, what is being waited for once
// it has taken longer than a second; clears the line at the end.
class Progress {
 public:
  explicit Progress(std::string what);
  ~Progress() { Stop(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Stop();

 private:
  void Run();

  const std::string what_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_OUTPUT_H_
