// What a benchmark prints: a table for people, or with --json one object
//   {"bench", "kind", "commit", "machine", "date", "figures": [
//     {"name", "value", "unit", "beside", "ratio", "ratio_between", "aim", "met"}]}
// on stdout and nothing else there ("kind" where all figures are of one that has to be told);
// --json-to=PATH writes that object to a file beside the table, anew with each figure, so that a
// benchmark that is ended leaves those that it had. Progress belongs on stderr. The environment
// names what the program cannot know: OCTOGATE_COMMIT, and OCTOGATE_DEVICE for what else than the
// processor was measured.
//
//   Report report("decode", argc, argv);
//   report.Add({.name = "batch 1, 2 threads", .value = 41.2, .unit = "tokens/s",
//               .beside = "bound by bytes per token", .ratio = 0.87,
//               .aim = AtLeast(0.8, Aim::kRatio)});
//   return report.Print();
//
// Not thread-safe.

#ifndef OCTOGATE_TESTS_BENCH_REPORT_H_
#define OCTOGATE_TESTS_BENCH_REPORT_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace octogate::bench {

// A bound that a figure shall keep.
struct Aim {
  enum Subject { kValue, kRatio };
  Subject subject = kValue;
  bool at_least = true;  // otherwise at most
  double bound = 0;
};
Aim AtLeast(double bound, Aim::Subject subject = Aim::kValue);
Aim AtMost(double bound, Aim::Subject subject = Aim::kValue);

struct Figure {
  std::string name;
  double value = 0;
  std::string unit;
  std::string beside;           // what it was measured against in the same run; may be empty
  std::optional<double> ratio;  // value / that
  // Between which the ratio is likely to lie, where that is known.
  std::optional<std::pair<double, double>> ratio_between = std::nullopt;
  std::optional<Aim> aim;
};

class Report {
 public:
  // Reads --json and --json-to from the arguments and ignores the others.
  Report(std::string bench, int argc, char** argv);

  void Add(Figure figure);
  // What kind of figures these are, e.g. that they are of a replay; empty: measured as they stand.
  void SetKind(std::string kind) { kind_ = std::move(kind); }
  bool json() const { return json_; }

  // Writes everything to stdout; returns the exit status of the benchmark: 0, also
  // where an aim is missed, which is a figure and not a failure; 1 where the file
  // of --json-to cannot be written.
  int Print() const;

 private:
  void PrintTable() const;
  std::string Json() const;
  bool WriteJson() const;

  std::string bench_;
  std::string kind_;
  bool json_ = false;
  std::string json_path_;
  std::vector<Figure> figures_;
};

// Whether the figure keeps its aim; none where there is no aim, or its aim is
// about a ratio that it does not have.
std::optional<bool> Met(const Figure& figure);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_REPORT_H_
