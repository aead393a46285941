#include "retrieval/schema/ddl_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kDump[] = R"(-- PostgreSQL database dump
SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $_$
BEGIN CREATE TABLE not_one (a int); END; $_$;
CREATE TABLE public.customers (
    id integer NOT NULL,
    "Full Name" character varying(80) DEFAULT 'it''s; (none'::character varying NOT NULL,
    tags text[] DEFAULT '{}'::text[],
    balance numeric(10,2) CHECK ((balance >= (0)::numeric)),
    CONSTRAINT positive CHECK (balance > 0)
);
COMMENT ON TABLE public.customers IS 'people; who buy';
COMMENT ON COLUMN public.customers."Full Name" IS E'first\nand last';
CREATE TABLE sales.orders (
    order_id bigint GENERATED ALWAYS AS IDENTITY, /* a /* nested */ comment */
    customer_id integer,
    key text,
    at timestamp with time zone DEFAULT now(),
    PRIMARY KEY (order_id),
    FOREIGN KEY (customer_id) REFERENCES public.customers (id) ON DELETE CASCADE
);
COPY public.customers (id) FROM stdin;
1	CREATE TABLE x (
2	'unended
\.
ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);
CREATE TABLE lines (order_id bigint REFERENCES sales.orders, line int, PRIMARY KEY (order_id, line));
ALTER TABLE lines ADD CONSTRAINT c FOREIGN KEY (line, order_id) REFERENCES other (a, b);
CREATE INDEX i ON lines USING btree (line);
)";

TEST(DdlReader, ReadsADump) {
  const auto schema = ParseDdl(kDump, "d.sql", "d");
  ASSERT_TRUE(schema.ok()) << schema.status();
  ASSERT_THAT(schema->tables, SizeIs(3));
  const Table& customers = schema->tables[0];
  EXPECT_EQ(customers.name, "customers");
  EXPECT_EQ(customers.description, "people; who buy");
  ASSERT_THAT(customers.columns, SizeIs(4));
  EXPECT_TRUE(customers.columns[0].primary_key);
  EXPECT_EQ(customers.columns[1].name, "Full Name");
  EXPECT_EQ(customers.columns[1].type, "character varying(80)");
  EXPECT_EQ(customers.columns[1].description, "first\nand last");
  EXPECT_EQ(customers.columns[3].type, "numeric(10,2)");
  const Table& orders = schema->tables[1];
  EXPECT_EQ(orders.name, "sales.orders");
  ASSERT_THAT(orders.columns, SizeIs(4));
  EXPECT_EQ(orders.columns[2].name, "key");
  EXPECT_EQ(orders.columns[3].type, "timestamp with time zone");
  EXPECT_TRUE(orders.columns[0].primary_key);
  ASSERT_THAT(orders.foreign_keys, SizeIs(1));
  EXPECT_EQ(orders.foreign_keys[0].table, "customers");
  const Table& lines = schema->tables[2];
  ASSERT_THAT(lines.foreign_keys, SizeIs(2));
  EXPECT_EQ(lines.foreign_keys[0].table, "sales.orders");
  EXPECT_THAT(lines.foreign_keys[0].references, IsEmpty());
  EXPECT_THAT(lines.foreign_keys[1].references, ElementsAre("a", "b"));
}

TEST(DdlReader, ReadsMySqlAndSqlServerSpellings) {
  const auto schema = ParseDdl(R"(
    CREATE TABLE IF NOT EXISTS `t` (
      `id` int(11) unsigned NOT NULL AUTO_INCREMENT COMMENT 'the ''id''',
      `kind` enum('a','b,c') DEFAULT NULL,
      KEY `k` (`kind`(10)), UNIQUE KEY (`id`), PRIMARY KEY (`id`) USING BTREE
    ) ENGINE=InnoDB COMMENT='all t';
    CREATE TABLE [dbo].[Order Lines] ([Order ID] [int] NOT NULL PRIMARY KEY);)",
                               "d.sql", "d");
  ASSERT_TRUE(schema.ok()) << schema.status();
  ASSERT_THAT(schema->tables, SizeIs(2));
  EXPECT_EQ(schema->tables[0].description, "all t");
  ASSERT_THAT(schema->tables[0].columns, SizeIs(2));
  EXPECT_EQ(schema->tables[0].columns[0].description, "the 'id'");
  EXPECT_THAT(schema->tables[0].columns[1].values, ElementsAre("a", "b,c"));
  EXPECT_TRUE(schema->tables[0].columns[0].primary_key);
  EXPECT_EQ(schema->tables[1].name, "Order Lines");
  EXPECT_EQ(schema->tables[1].columns[0].name, "Order ID");
}

TEST(DdlReader, NamesTheLineOfAnError) {
  const auto error = [](const char* text) {
    const auto schema = ParseDdl(text, "d.sql", "d");
    return schema.ok() ? "none" : std::string(schema.status().message());
  };
  EXPECT_THAT(error("SELECT 1;"), HasSubstr("there is no CREATE TABLE"));
  EXPECT_THAT(error("CREATE TABLE t (\n a int,\n b"), HasSubstr("d.sql:3: the text ends"));
  EXPECT_THAT(error("CREATE TABLE t (a int);\n/* x"), HasSubstr("d.sql:2: a comment does not end"));
  EXPECT_THAT(error("CREATE TABLE t (a int DEFAULT 'x"), HasSubstr("d.sql:1: a string does not"));
  EXPECT_THAT(error("CREATE TABLE t (a int, a int);"), HasSubstr("'a' of 't' is there twice"));
  EXPECT_THAT(error("CREATE TABLE t (a int);\nCREATE TABLE T (a int);"),
              HasSubstr("d.sql:2: the table 'T' is created twice"));
  EXPECT_THAT(error("CREATE TABLE t (\xff int);"), HasSubstr("d.sql:1: is not valid UTF-8"));
  EXPECT_THAT(error("CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES u (b, c));"),
              HasSubstr("1 columns refer to 2"));
}

// No text, however it is cut or scrambled, does more than fail.
TEST(DdlReader, SurvivesDamagedText) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const std::string dump = kDump;
  for (int round = 0; round < 2000; ++round) {
    std::string text = dump.substr(0, random() % (dump.size() + 1));
    for (int edits = static_cast<int>(random() % 4); edits > 0 && !text.empty(); --edits) {
      text[random() % text.size()] = "();,'\"[]$\\./*-\xff"[random() % 16];
    }
    const auto schema = ParseDdl(text, "d.sql", "d");
    EXPECT_TRUE(!schema.ok() || !schema->tables.empty());
  }
}

}  // namespace
}  // namespace octogate::schema
