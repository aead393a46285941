#include <iostream>
#include <string>
#include <utility>

#include "gateway/octoctl/catalog_view.h"
#include "gateway/octoctl/commands.h"

namespace octogate::octoctl {
namespace {

constexpr int kPageTables = 1000;
constexpr int kMostMembers = 1000;  // that the gateway names of a family

// All pages.
grpc::Status GetTables(Connection& connection, const CatalogOptions& options,
                       v1::GetCatalogResponse& whole) {
  v1::GetCatalogRequest request;
  request.set_name(options.name);
  request.set_table(options.table);
  request.set_tenant(options.tenant);
  request.set_limit(kPageTables);
  for (bool more = true; more;) {
    request.set_offset(whole.tables_size());
    v1::GetCatalogResponse page;
    const grpc::Status status =
        connection.admin().GetCatalog(connection.Context().get(), request, &page);
    if (!status.ok()) return status;
    if (whole.tables_size() > 0 && page.info().version() != whole.info().version()) {
      return {grpc::StatusCode::ABORTED,
              "the catalog has been refreshed while it was listed; try again"};
    }
    *whole.mutable_info() = page.info();
    for (v1::CatalogTable& table : *page.mutable_tables()) *whole.add_tables() = std::move(table);
    more = page.more() && page.tables_size() > 0;
  }
  return grpc::Status::OK;
}

// What the command line says of a catalog. False, with a message on standard error, for one that
// has no source.
bool FillCatalog(const CatalogOptions& options, v1::Catalog& catalog) {
  catalog.set_name(options.name);
  if (!options.sqlite.empty()) catalog.set_sqlite(options.sqlite);
  if (!options.ddl.empty()) catalog.set_ddl(options.ddl);
  if (!options.spider.empty()) catalog.set_spider(options.spider);
  if (!options.json.empty()) catalog.set_json(options.json);
  if (catalog.source_case() == v1::Catalog::SOURCE_NOT_SET && options.postgresql.empty()) {
    std::cerr << "octoctl: the catalog has no source; name a path below the gateway's --model-root "
                 "with --sqlite, --ddl, --spider or --json, or a server with --postgresql\n";
    return false;
  }
  catalog.set_database(options.database);
  catalog.set_descriptions(options.descriptions);
  catalog.set_encoder(options.encoder);
  catalog.set_postgresql(options.postgresql);
  for (const std::string& column : options.sensitive) catalog.add_sensitive(column);
  if (options.max_values.has_value()) catalog.set_max_values(*options.max_values);
  return true;
}

template <typename Names>
void PrintNames(const char* mark, const std::string& colour, const Style& style,
                const Names& names) {
  for (const std::string& name : names) {
    std::cout << colour << mark << " " << OneLine(name, 200) << style.reset << "\n";
  }
}

}  // namespace

ExitStatus AddCatalog(Connection& connection, const CatalogOptions& options, Format format) {
  v1::PutCatalogRequest request;
  if (!FillCatalog(options, *request.mutable_catalog())) return kUsage;
  request.set_dry_run(options.dry_run);
  request.set_expected_version(options.expected_version);
  // Who may see what is not said here: a catalog that is replaced keeps it.
  v1::GetGraphResponse graph;
  const grpc::Status got = connection.admin().GetGraph(connection.Context().get(), {}, &graph);
  if (!got.ok() && got.error_code() != grpc::StatusCode::NOT_FOUND) return connection.Report(got);
  for (const v1::Catalog& known : graph.graph().spec().catalogs()) {
    if (known.name() != options.name) continue;
    *request.mutable_catalog()->mutable_access() = known.access();
    if (options.expected_version == 0) request.set_expected_version(graph.version());
  }
  v1::PutCatalogResponse response;
  grpc::Status status;
  {
    const Progress progress("reading the catalog " + Printable(options.name));
    status = connection.admin().PutCatalog(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  PrintChanges(response.changes());
  for (const std::string& warning : response.warnings()) {
    std::cerr << "octoctl: warning: " << Printable(warning) << "\n";
  }
  if (request.catalog().access_size() > 0) {
    std::cout << "access of " << request.catalog().access_size() << " tenants is kept\n";
  }
  if (response.has_info()) {
    const v1::CatalogInfo& info = response.info();
    std::cout << "catalog " << Printable(info.name()) << ": " << info.tables() << " tables, "
              << info.columns() << " columns, " << info.declared_keys() + info.inferred_keys()
              << " keys, " << info.values() << " values\n";
  }
  if (response.changes().empty()) {
    std::cout << "unchanged, version " << response.version() << " stays\n";
  } else {
    std::cout << (options.dry_run ? "valid; would become version " : "applied as version ")
              << response.version() << "\n";
  }
  return kOk;
}

ExitStatus GetCatalogs(Connection& connection, const CatalogOptions& options, Format format) {
  if (options.name.empty()) {
    v1::ListCatalogsResponse response;
    const grpc::Status status =
        connection.admin().ListCatalogs(connection.Context().get(), {}, &response);
    if (!status.ok()) return connection.Report(status);
    if (PrintStructured(response, format)) return kOk;
    if (format == Format::kName) {
      for (const v1::CatalogInfo& info : response.catalogs()) std::cout << info.name() << "\n";
      return kOk;
    }
    PrintCatalogs(response, format == Format::kWide, std::cout);
    return kOk;
  }
  v1::GetCatalogResponse response;
  if (const grpc::Status status = GetTables(connection, options, response); !status.ok()) {
    return connection.Report(status);
  }
  if (format == Format::kJson || format == Format::kYaml) {
    for (const v1::CatalogTable& table : response.tables()) {
      if (table.family_members_size() < kMostMembers) continue;
      std::cerr << "octoctl: warning: of the family of " << Printable(table.name()) << " only "
                << kMostMembers << " tables are written\n";
    }
    PrintJson(CatalogJson(response.info().name(), response.tables()), format);
    return kOk;
  }
  if (format == Format::kName) {
    for (const v1::CatalogTable& table : response.tables()) {
      if (options.table.empty()) std::cout << Printable(table.name()) << "\n";
      if (options.table.empty()) continue;
      for (const auto& column : table.columns()) std::cout << Printable(column.name()) << "\n";
    }
    return kOk;
  }
  if (options.table.empty()) {
    PrintTables(response.tables(), format == Format::kWide, std::cout);
  } else if (!response.tables().empty()) {
    PrintColumns(response.tables(0), format == Format::kWide, std::cout);
  }
  return kOk;
}

ExitStatus DescribeCatalog(Connection& connection, const CatalogOptions& options, Format format) {
  v1::GetCatalogRequest request;
  request.set_name(options.name);
  request.set_table(options.table);
  request.set_tenant(options.tenant);
  request.set_limit(1);
  v1::GetCatalogResponse response;
  const grpc::Status status =
      connection.admin().GetCatalog(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (options.table.empty()) {
    if (!PrintStructured(response.info(), format)) DescribeCatalog(response.info(), std::cout);
  } else if (!response.tables().empty()) {
    if (!PrintStructured(response.tables(0), format)) DescribeTable(response.tables(0), std::cout);
  }
  return kOk;
}

ExitStatus RefreshCatalog(Connection& connection, const CatalogOptions& options, Format format) {
  v1::RefreshCatalogRequest request;
  request.set_name(options.name);
  v1::RefreshCatalogResponse response;
  grpc::Status status;
  {
    const Progress progress("reading the catalog " + Printable(options.name));
    status = connection.admin().RefreshCatalog(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  const Style style = StandardOutputStyle();
  PrintNames("+", style.green, style, response.added());
  PrintNames("-", style.red, style, response.removed());
  PrintNames("~", style.yellow, style, response.changed());
  const bool same = response.previous_version() == response.info().version();
  std::cout << "catalog " << Printable(options.name) << " is "
            << (same ? "unchanged, version " : "now version ")
            << Printable(response.info().version()) << ", read in "
            << Duration(response.duration_us()) << "\n";
  return kOk;
}

ExitStatus LinkQuestion(Connection& connection, const CatalogOptions& options, Format format) {
  v1::LinkSchemaRequest request;
  request.set_catalog(options.name);
  request.set_question(options.question);
  request.set_evidence(options.evidence);
  request.set_tenant(options.tenant);
  v1::LinkSettings& settings = *request.mutable_settings();
  settings.set_token_budget(options.budget);
  settings.set_max_columns(options.max_columns);
  if (options.focused) settings.set_mode(v1::LINK_MODE_FOCUSED);
  if (options.minimal) settings.set_recall(v1::LINK_RECALL_MINIMAL);
  if (options.style == "list") settings.set_style(v1::LINK_STYLE_LIST);
  v1::LinkSchemaResponse response;
  const grpc::Status status =
      connection.gateway().LinkSchema(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  if (options.text) {
    std::cout << Printable(response.rendered()) << "\n";
  } else {
    PrintLink(response, StandardOutputStyle(), std::cout);
  }
  return kOk;
}

}  // namespace octogate::octoctl
