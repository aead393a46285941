// Draws catalogs of databases and links with them for people, and writes catalogs as files.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_CATALOG_VIEW_H_
#define OCTOGATE_GATEWAY_OCTOCTL_CATALOG_VIEW_H_

#include <google/protobuf/repeated_field.h>

#include <ostream>
#include <string>

#include "gateway/octoctl/output.h"
#include "octogate/v1/admin.pb.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::octoctl {

using CatalogTables = google::protobuf::RepeatedPtrField<octogate::v1::CatalogTable>;

void PrintCatalogs(const octogate::v1::ListCatalogsResponse& catalogs, bool wide,
                   std::ostream& out);
// A line per table; per column of a table.
void PrintTables(const CatalogTables& tables, bool wide, std::ostream& out);
void PrintColumns(const octogate::v1::CatalogTable& table, bool wide, std::ostream& out);

// Everything about a catalog, or a table of it, in lines "Key: value".
void DescribeCatalog(const octogate::v1::CatalogInfo& info, std::ostream& out);
void DescribeTable(const octogate::v1::CatalogTable& table, std::ostream& out);

// Which tables and columns a link shows with their scores, why, and what it leaves out.
void PrintLink(const octogate::v1::LinkSchemaResponse& link, const Style& style, std::ostream& out);

// The tables in the format of `Catalog.json`, which a catalog can be read from again. What
// CatalogTable does not have is missing there, too: values beyond the first of a column, which are
// marked as not complete, tables of a family beyond the first 1,000, and that keys of several
// columns belong together. Keys that are inferred are left out: they would be again.
std::string CatalogJson(const std::string& name, const CatalogTables& tables);

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_CATALOG_VIEW_H_
