// octoctl: looks at a gateway, asks it, and changes its graph.

#include <google/protobuf/stubs/logging.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <map>
#include <string>

#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/connection.h"
#include "gateway/octoctl/help_texts.h"

namespace octogate::octoctl {
namespace {

std::string DefaultServer() {
  const char* server = std::getenv("OCTOGATE_SERVER");  // NOLINT(concurrency-mt-unsafe)
  return server != nullptr && *server != '\0' ? server : "127.0.0.1:7070";
}

// Everything that the command line can say.
struct Flags {
  std::string server = DefaultServer();
  double timeout_seconds = 60;
  Format format = Format::kTable;
  Picture picture = Picture::kText;
  ApplyOptions apply;
  DiffOptions diff;
  QueryOptions query;
  TokenOptions token;
  FeedbackOptions feedback;
  ReplayOptions replay;
  CatalogOptions catalog;
  BenchOptions bench;
  DraftsOptions drafts;
  CacheOptions cache;
  std::string resource;
  std::string name;
  std::string out_file;
  std::string shell;
  int64_t version = 0;
  bool undo = false;
  bool client_only = false;
};

using Command = std::function<ExitStatus(Connection&)>;

// Declares the commands on `app`; the one that is parsed sets `command`.
class CommandLine {
 public:
  CommandLine(CLI::App& app, Flags& flags, Command& command)
      : app_(app), flags_(flags), command_(command) {
    app.require_subcommand(1);
    app.fallthrough();
    app.footer(kFooter);
    app.set_version_flag("--version", std::string("octoctl ") + OCTOGATE_VERSION);
    app.add_option("--server", flags.server, "gateway's host:port; default from OCTOGATE_SERVER")
        ->capture_default_str();
    app.add_option("--timeout", flags.timeout_seconds, "seconds that a call may take")
        ->check(CLI::Range(0.001, 86400.0))
        ->capture_default_str();
    GraphCommands();
    NodeCommands();
    QueryCommands();
    TokenCommands();
    FeedbackCommands();
    CatalogCommands();
    BenchCommands();
    DraftsCommands();
    CacheCommands();
  }

 private:
  CLI::App* Add(const std::string& name, const std::string& description, Command command) {
    return Add(app_, name, description, std::move(command));
  }
  CLI::App* Add(CLI::App& parent, const std::string& name, const std::string& description,
                Command command) {
    CLI::App* sub = parent.add_subcommand(name, description);
    sub->callback([this, command = std::move(command)] { command_ = command; });
    return sub;
  }

  void OutputOption(CLI::App* sub, const std::string& names = "-o,--output") {
    static const std::map<std::string, Format> kFormats = {{"table", Format::kTable},
                                                           {"wide", Format::kWide},
                                                           {"json", Format::kJson},
                                                           {"yaml", Format::kYaml},
                                                           {"name", Format::kName}};
    sub->add_option(names, flags_.format, "table, wide, json, yaml or name")
        ->transform(CLI::CheckedTransformer(kFormats, CLI::ignore_case).description(""));
  }

  void GraphCommands() {
    Flags& f = flags_;
    CLI::App* apply = Add("apply", "validate a graph and apply it",
                          [&f](Connection& c) { return Apply(c, f.apply, f.format); });
    apply->add_option("-f,--filename", f.apply.file, "manifest; - is standard input")->required();
    apply->add_flag("--dry-run", f.apply.dry_run, "validate and compare only");
    apply->add_option("--expected-version", f.apply.expected_version,
                      "fail unless this version is applied");
    OutputOption(apply);

    CLI::App* diff = Add("diff", "compare the applied graph with a file, or two versions",
                         [&f](Connection& c) { return Diff(c, f.diff, f.format); });
    CLI::Option_group* newer = diff->add_option_group("newer side");
    newer->add_option("-f,--filename", f.diff.file, "manifest; - is standard input");
    newer->add_option("--to", f.diff.to_version, "newer version");
    newer->require_option(1);
    diff->add_option("--from", f.diff.from_version, "older version; 0: the applied one");
    OutputOption(diff);

    CLI::App* rollback = Add("rollback", "apply an earlier version again",
                             [&f](Connection& c) { return Rollback(c, f.version, f.format); });
    rollback->add_option("version", f.version, "default: the one before the applied one");
    OutputOption(rollback);

    CLI::App* view = Add("view", "draw the graph",
                         [&f](Connection& c) { return View(c, f.version, f.picture, f.out_file); });
    static const std::map<std::string, Picture> kPictures = {
        {"text", Picture::kText}, {"dot", Picture::kDot}, {"svg", Picture::kSvg}};
    view->add_option("-o,--output", f.picture, "text, dot or svg")
        ->transform(CLI::CheckedTransformer(kPictures, CLI::ignore_case).description(""));
    view->add_option("--out", f.out_file, "file to write; default: standard output");
    view->add_option("--graph-version", f.version, "default: the applied one");
  }

  void NodeCommands() {
    Flags& f = flags_;
    CLI::App* get =
        Add("get", "list graph, nodes, models, versions or traces", [&f](Connection& c) {
          if (f.resource == "graph") return GetGraph(c, f.version, f.format);
          if (f.resource == "nodes") return GetNodes(c, f.name, f.format);
          if (f.resource == "models") return GetModels(c, f.format);
          if (f.resource == "versions") return GetVersions(c, f.format);
          return GetTraces(c, f.name, f.format);
        });
    get->add_option("resource", f.resource, "graph, nodes, models, versions or traces")
        ->required()
        ->check(CLI::IsMember({"graph", "nodes", "models", "versions", "traces"}).description(""));
    get->add_option("name", f.name, "only this node; for traces, only those that entered it");
    get->add_option("--graph-version", f.version, "for graph; default: the applied one");
    OutputOption(get);

    CLI::App* describe =
        Add("describe", "show everything about a node or a model", [&f](Connection& c) {
          return f.resource == "model" ? DescribeModel(c, f.name, f.format)
                                       : DescribeNode(c, f.name, f.format);
        });
    describe->add_option("resource", f.resource, "node or model")
        ->required()
        ->check(CLI::IsMember({"node", "model"}).description(""));
    describe->add_option("name", f.name, "its name")->required();
    OutputOption(describe);

    CLI::App* drain = Add("drain", "take a node out of service",
                          [&f](Connection& c) { return DrainNode(c, f.name, f.undo, f.format); });
    drain->add_option("node", f.name, "the node's name")->required();
    drain->add_flag("--undo", f.undo, "put it back into service");
    OutputOption(drain);

    CLI::App* version =
        Add("version", "show the versions of octoctl and the gateway",
            [&f](Connection& c) { return ShowVersion(c, f.client_only, f.format); });
    version->add_flag("--client", f.client_only, "of octoctl only");
    OutputOption(version);

    CLI::App* completion = Add("completion", "print shell completion",
                               [&f](Connection&) { return Completion(f.shell); });
    completion->add_option("shell", f.shell, "bash or zsh")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh"}).description(""));
  }

  void QueryCommands() {
    Flags& f = flags_;
    CLI::App* route = Add("route", "show which node a query would go to, and why",
                          [&f](Connection& c) { return Route(c, f.query, f.format); });
    QueryArguments(route);
    route->add_flag("--all-heads", f.query.all_heads, "ask every head, also after one has decided");
    route->add_flag("--explain", f.query.explain,
                    "say which words and examples spoke for each head's choice");

    CLI::App* ask = Add("ask", "send a query and stream its answer",
                        [&f](Connection& c) { return Ask(c, f.query, f.format); });
    QueryArguments(ask);
    ask->add_flag("--trace", f.query.trace, "draw the steps");
    ask->add_flag("--no-cache", f.query.no_cache,
                  "take nothing from caches, and put nothing there");
    ask->add_option("--max-tokens", f.query.max_tokens, "new tokens at most");
    ask->add_option("--max-calls", f.query.max_calls, "calls of models at most");
    ask->add_option("--max-cost", f.query.max_cost, "what these may cost at most");
    ask->add_option("--quality", f.query.quality,
                    "how probably right answers have to be, 0 to 1, where a node chooses by that");
    ask->add_option("--temperature", f.query.temperature, "0 is greedy; default: the node's");
    ask->add_option("--seed", f.query.seed, "makes sampled answers repeatable");
    CLI::Option_group* grammar = ask->add_option_group("what answers of models are limited to");
    grammar->add_flag("--json", f.query.json, "any JSON text");
    grammar->add_option("--json-schema", f.query.json_schema,
                        "JSON that conforms to the JSON Schema in this file; - is standard input");
    grammar->add_option("--grammar", f.query.grammar,
                        "a text of the grammar in this file, in the notation of GBNF");
    grammar->require_option(0, 1);
    ask->footer(kAskFooter);

    CLI::App* explain = Add("explain", "draw the steps that a past query took",
                            [&f](Connection& c) { return Explain(c, f.name, f.format); });
    explain->add_option("trace", f.name, "id of the trace, or last")->required();
    OutputOption(explain);

    CLI::App* replay = Add("replay", "decide recorded queries again by another graph, not applied",
                           [&f](Connection& c) { return Replay(c, f.replay, f.format); });
    CLI::Option_group* other = replay->add_option_group("other graph");
    other->add_option("--graph", f.replay.graph, "its manifest; - is standard input");
    other->add_option("--graph-version", f.replay.version, "a version that is kept");
    other->require_option(1);
    replay->add_option("--traces", f.replay.traces,
                       "queries, one a line or as JSON lines {\"query\": …, \"node\": …} where the "
                       "node is known; default: the gateway's traces");
    replay->add_option("--tenant", f.replay.tenant, "only traces of this tenant");
    replay->add_option("--limit", f.replay.limit, "traces at most, the newest; default: 1000");
    replay->add_option("--changes", f.replay.changes, "changed queries shown; default: 100");
    OutputOption(replay);
  }

  void TokenCommands() {
    Flags& f = flags_;
    CLI::App* tokens =
        app_.add_subcommand("tokens", "teach routers when to choose a node, and measure them");
    tokens->require_subcommand(1);
    tokens->fallthrough();

    CLI::App* learn = Add(*tokens, "learn", "learn a node's token from examples, while it runs",
                          [&f](Connection& c) { return LearnToken(c, f.token, f.format); });
    learn->add_option("node", f.token.node, "the node's name")->required();
    learn
        ->add_option("--examples", f.token.file,
                     "queries, one a line or as JSON lines {\"query\": …}; - is standard input")
        ->required();
    learn->add_option("--router", f.token.router, "make it a member of this router, too");
    ChangeOptions(learn);

    CLI::App* forget = Add(*tokens, "forget", "take back what a node has learned",
                           [&f](Connection& c) { return ForgetToken(c, f.token, f.format); });
    forget->add_option("node", f.token.node, "the node's name")->required();
    ChangeOptions(forget);

    CLI::App* evaluate = Add(*tokens, "evaluate", "route labelled queries and count how it goes",
                             [&f](Connection& c) { return EvaluateTokens(c, f.token, f.format); });
    evaluate
        ->add_option("--set", f.token.file,
                     "lines of NODE, a tabulator and a query, or JSON lines {\"node\": …, "
                     "\"query\": …}; a node that is no member stands for out of scope")
        ->required();
    evaluate->add_option("--router", f.token.router, "default: the graph's entry");
    evaluate->add_flag("--all-heads", f.token.all_heads,
                       "ask every head, also after one has decided");
    OutputOption(evaluate);
  }

  void FeedbackCommands() {
    Flags& f = flags_;
    CLI::App* feedback =
        app_.add_subcommand("feedback", "what users said of decisions, and what to make of it");
    feedback->require_subcommand(1);
    feedback->fallthrough();

    CLI::App* list = Add(*feedback, "list", "list feedback, newest first",
                         [&f](Connection& c) { return ListFeedback(c, f.feedback, f.format); });
    list->add_option("--tenant", f.feedback.tenant, "only of this tenant");
    OutputOption(list);

    CLI::App* give = Add(*feedback, "give", "say whether a query went to the right node",
                         [&f](Connection& c) { return GiveFeedback(c, f.feedback, f.format); });
    give->add_option("trace", f.feedback.trace_id, "the query's trace")->required();
    give->add_option("verdict", f.feedback.verdict, "right, wrong, or better with a node")
        ->required()
        ->check(CLI::IsMember({"right", "wrong", "better"}).description(""));
    give->add_option("node", f.feedback.node, "with better: the node that should have answered");
    give->add_option("--tenant", f.feedback.tenant, "whose query it was");
    OutputOption(give);

    CLI::App* promote =
        Add(*feedback, "promote", "make feedback with a better node learned examples of that node",
            [&f](Connection& c) { return PromoteFeedback(c, f.feedback, f.format); });
    promote->add_option("traces", f.feedback.trace_ids, "only feedback on these traces");
    promote->add_option("--tenant", f.feedback.tenant, "only of this tenant");
    promote->add_option("--node", f.feedback.node, "only what should have gone to this node");
    promote->add_flag("--dry-run", f.feedback.dry_run, "validate and compare only");
    promote->add_option("--expected-version", f.feedback.expected_version,
                        "fail unless this version is applied");
    OutputOption(promote);
  }

  void CatalogCommands() {
    Flags& f = flags_;
    CatalogOptions& o = f.catalog;
    CLI::App* catalog =
        app_.add_subcommand("catalog", "databases whose schemas questions are linked with");
    catalog->require_subcommand(1);
    catalog->fallthrough();
    catalog->footer(kCatalogFooter);

    CLI::App* add = Add(*catalog, "add", "add a catalog to the graph, or replace it",
                        [&f](Connection& c) { return AddCatalog(c, f.catalog, f.format); });
    add->add_option("name", o.name, "the catalog's name")->required();
    CLI::Option_group* source =
        add->add_option_group("source", "a path below the gateway's --model-root");
    source->add_option("--sqlite", o.sqlite, "a SQLite database");
    source->add_option("--ddl", o.ddl, "a file of CREATE TABLE statements");
    source->add_option("--spider", o.spider, "a tables.json of Spider or BIRD");
    source->add_option("--json", o.json, "a file that 'catalog get -o json' has written");
    source->require_option(0, 1);
    add->add_option("--database", o.database, "which database of a file that has several");
    add->add_option("--descriptions", o.descriptions,
                    "a folder with a CSV file per table, as BIRD describes columns");
    add->add_option("--encoder", o.encoder, "a model of the graph whose vectors count");
    add->add_option("--postgresql", o.postgresql,
                    "the gateway's environment variable with a connection string: what SQL nodes "
                    "read, and without a path also where the schema comes from");
    add->add_option("--sensitive", o.sensitive,
                    "table.column whose values are never read; repeat it")
        ->allow_extra_args(false);
    add->add_option("--max-values", o.max_values, "distinct values kept of a column");
    add->add_flag("--dry-run", o.dry_run, "validate, read and compare only");
    add->add_option("--expected-version", o.expected_version,
                    "fail unless this version is applied");
    OutputOption(add);

    CLI::App* get = Add(*catalog, "get", "list catalogs, a catalog's tables, or a table's columns",
                        [&f](Connection& c) { return GetCatalogs(c, f.catalog, f.format); });
    CatalogArguments(get, /*needs_name=*/false);

    CLI::App* describe =
        Add(*catalog, "describe", "show everything about a catalog or a table",
            [&f](Connection& c) { return DescribeCatalog(c, f.catalog, f.format); });
    CatalogArguments(describe, /*needs_name=*/true);

    CLI::App* refresh = Add(*catalog, "refresh", "read a catalog's files again",
                            [&f](Connection& c) { return RefreshCatalog(c, f.catalog, f.format); });
    refresh->add_option("name", o.name, "the catalog's name")->required();
    OutputOption(refresh);

    CLI::App* link = Add(*catalog, "link", "show which tables and columns a question needs",
                         [&f](Connection& c) { return LinkQuestion(c, f.catalog, f.format); });
    link->add_option("name", o.name, "the catalog's name")->required();
    link->add_option("question", o.question, "the question")->required();
    link->add_option("--evidence", o.evidence, "what is known beside the question");
    link->add_option("--budget", o.budget, "tokens of the text at most");
    link->add_option("--max-columns", o.max_columns, "columns at most");
    link->add_option("--style", o.style, "of the text: ddl or list")
        ->check(CLI::IsMember({"ddl", "list"}).description(""));
    link->add_flag("--focused", o.focused, "even where the whole schema fits into the budget");
    link->add_flag("--minimal", o.minimal, "few columns: each costs");
    link->add_flag("--text", o.text, "print the text that a model would be given");
    link->add_option("--tenant", o.tenant, "whose question this is");
    OutputOption(link);
  }

  void CatalogArguments(CLI::App* sub, bool needs_name) {
    CatalogOptions& o = flags_.catalog;
    sub->add_option("name", o.name, "the catalog's name")->required(needs_name);
    sub->add_option("table", o.table, "only this table");
    sub->add_option("--tenant", o.tenant, "as this tenant sees it");
    OutputOption(sub);
  }

  void BenchCommands() {
    Flags& f = flags_;
    CLI::App* bench = app_.add_subcommand("bench", "measure what is applied");
    bench->require_subcommand(1);
    bench->fallthrough();

    CLI::App* route = Add(*bench, "route", "measure a router on labelled queries, and its time",
                          [&f](Connection& c) { return BenchRoute(c, f.bench, f.format); });
    route
        ->add_option(
            "--suite", f.bench.suites,
            "files as for 'tokens evaluate --set': lines of NODE, a tabulator and a query, "
            "or JSON lines {\"node\": …, \"query\": …}; a node that is no member stands "
            "for out of scope")
        ->required();
    route->add_option("--router", f.bench.router, "default: the graph's entry");
    route->add_option("--tenant", f.bench.tenant, "whose queries these are, for limits");
    route->add_option("--calls", f.bench.calls, "calls of Route that are timed, for each suite")
        ->check(CLI::Range(1, 1'000'000))
        ->capture_default_str();
    OutputOption(route);
    route->footer(kBenchRouteFooter);
  }

  void DraftsCommands() {
    Flags& f = flags_;
    CLI::App* drafts =
        app_.add_subcommand("drafts", "corpora from which models' drafts are retrieved");
    drafts->require_subcommand(1);
    drafts->fallthrough();
    drafts->footer(kDraftsFooter);

    CLI::App* build = Add(*drafts, "build", "make a store of texts",
                          [&f](Connection&) { return BuildDrafts(f.drafts, f.format); });
    build->add_option("--output", f.drafts.file, "the store's file")->required();
    CorpusArguments(build);
    OutputOption(build, "-o,--format");
    CLI::App* append = Add(*drafts, "append", "add texts to a store",
                           [&f](Connection&) { return AppendDrafts(f.drafts, f.format); });
    append->add_option("file", f.drafts.file, "the store's file")->required();
    CorpusArguments(append);
    OutputOption(append);
    CLI::App* compact = Add(*drafts, "compact", "merge what was added into few segments",
                            [&f](Connection&) { return CompactDrafts(f.drafts, f.format); });
    CLI::App* describe = Add(*drafts, "describe", "check a store and say what it holds",
                             [&f](Connection&) { return DescribeDrafts(f.drafts, f.format); });
    for (CLI::App* sub : {compact, describe}) {
      sub->add_option("file", f.drafts.file, "the store's file")->required();
      OutputOption(sub);
    }
    for (CLI::App* sub : {build, append, compact}) {
      sub->add_option("--segment-tokens", f.drafts.segment_tokens,
                      "tokens that are sorted at once, which takes up to 24 bytes of memory each; "
                      "default: 64 Mi")
          ->check(CLI::Range(uint64_t{2}, uint64_t{1} << 29));
      sub->add_flag("--near-matches", f.drafts.near_matches,
                    "also make STORE.near, by which contexts are found that are like one, not "
                    "equal to it; append and compact keep it up once it is there");
    }
  }

  void CacheCommands() {
    Flags& f = flags_;
    CLI::App* cache = app_.add_subcommand(
        "cache", "what is kept of queries: decisions, answers, and the models' pages");
    cache->require_subcommand(1);
    cache->fallthrough();
    cache->footer(kCacheFooter);

    CLI::App* stats = Add(*cache, "stats", "show what caches hold and how often they were of use",
                          [&f](Connection& c) { return CacheStats(c, f.cache, f.format); });
    stats->add_option("--model", f.cache.model, "only the pages and drafts of this model");
    stats->footer(kCacheStatsFooter);
    CLI::App* flush =
        Add(*cache, "flush",
            "forget decisions and answers, those that gateways share too; or the pages of a model",
            [&f](Connection& c) { return FlushCache(c, f.cache, f.format); });
    CLI::Option* const kind =
        flush->add_option("--kind", f.cache.kinds, "decisions or answers; repeat it; default: both")
            ->allow_extra_args(false)
            ->check(CLI::IsMember({"decisions", "answers"}).description(""));
    flush
        ->add_option("--model", f.cache.model,
                     "the pages of this model at all of its replicas, and those that they share "
                     "through a store")
        ->excludes(kind);
    flush->footer(kCacheFlushFooter);
    CLI::App* explain =
        Add(*cache, "explain", "say what the caches would do for a query, without running it",
            [&f](Connection& c) { return ExplainCache(c, f.cache, f.format); });
    explain->add_option("request", f.cache.query, "the query; - is standard input")->required();
    explain->add_option("--node", f.cache.node, "enter here instead of the graph's entry");
    explain->footer(kCacheExplainFooter);
    explain->add_option("--max-tokens", f.cache.max_tokens, "as of ask");
    explain->add_option("--temperature", f.cache.temperature, "as of ask");
    explain->add_option("--seed", f.cache.seed, "as of ask");
    for (CLI::App* sub : {stats, flush, explain}) {
      sub->add_option("--tenant", f.cache.tenant,
                      sub == explain ? "whose query this is" : "only this tenant's part");
      OutputOption(sub);
    }
  }

  void CorpusArguments(CLI::App* sub) {
    DraftsOptions& o = flags_.drafts;
    sub->add_option("--tokenizer", o.tokenizer, "the model's folder, with tokenizer.json")
        ->required();
    sub->add_option("--field", o.fields,
                    "field of JSON Lines (*.jsonl) with a text, texts or token ids; repeat it; "
                    "default: text")
        ->allow_extra_args(false);
    sub->add_option("path", o.paths,
                    "files of text or JSON Lines, and folders of them; - is standard input")
        ->required();
  }

  void ChangeOptions(CLI::App* sub) {
    sub->add_flag("--dry-run", flags_.token.dry_run, "validate and compare only");
    sub->add_option("--expected-version", flags_.token.expected_version,
                    "fail unless this version is applied");
    OutputOption(sub);
  }

  void QueryArguments(CLI::App* sub) {
    sub->add_option("query", flags_.query.query, "the query; - is standard input")->required();
    sub->add_option("--node", flags_.query.node, "enter here instead of the graph's entry");
    sub->add_option("--tenant", flags_.query.tenant, "whose query this is");
    sub->add_option("--session", flags_.query.session, "the conversation that it belongs to");
    OutputOption(sub);
  }

  CLI::App& app_;
  Flags& flags_;
  Command& command_;
};

int Main(int argc, char** argv) {
  // It would write a line for each request that is not UTF-8; the status says so.
  google::protobuf::SetLogHandler(nullptr);
  Flags flags;
  Command command;
  CLI::App app("octoctl looks at an Octogate gateway, asks it, and changes its graph.", "octoctl");
  const CommandLine command_line(app, flags, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  Connection connection(flags.server, flags.timeout_seconds);
  return command(connection);
}

}  // namespace
}  // namespace octogate::octoctl

int main(int argc, char** argv) {
  try {
    return octogate::octoctl::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "octoctl: " << error.what() << "\n";
    return octogate::octoctl::kFailed;
  }
}
