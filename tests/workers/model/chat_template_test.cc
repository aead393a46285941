#include "workers/model/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/workers/model/test_folder.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

constexpr const char* kFixtures = OCTOGATE_FIXTURES "/chat_templates";

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

ChatJson ReadJson(const std::string& name) {
  return ChatJson::parse(ReadFile(std::filesystem::path(kFixtures) / name));
}

// What make.py renders with: the time, and "<s>" and "</s>".
absl::StatusOr<std::string> Render(const std::string& source, const ChatJson& conversation) {
  const auto parsed = ChatTemplate::Parse(source, "<s>", "</s>");
  if (!parsed.ok()) return parsed.status();
  ChatRenderOptions options;
  options.now = absl::FromUnixSeconds(1732294800);
  options.tools = conversation.value("tools", ChatJson());
  options.variables = conversation.value("variables", ChatJson());
  options.add_generation_prompt = conversation.value("add_generation_prompt", true);
  return parsed->Render(conversation["messages"], options);
}

absl::StatusOr<std::string> RenderText(const std::string& source) {
  return Render(source, {{"messages", {{{"role", "user"}, {"content", "hi"}}}}});
}

std::string Fnv1a(std::string_view data) {
  uint64_t value = 0xCBF29CE484222325;
  for (const char byte : data) value = (value ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
  return absl::StrFormat("%016x", value);
}

// Every construct of the language, against what jinja2 made of it.
TEST(ChatTemplate, RendersTheLanguageAsRecorded) {
  const ChatJson conversation = ReadJson("conversations.json")[1];
  const ChatJson cases = ReadJson("language.json");
  ASSERT_GT(cases.size(), 100u);
  for (const ChatJson& recorded : cases) {
    const std::string source = recorded["template"];
    SCOPED_TRACE(source);
    const auto text = Render(source, conversation);
    if (recorded.contains("error")) {
      EXPECT_FALSE(text.ok()) << "rendered " << *text << "\nbut jinja2 fails with "
                              << recorded["error"];
    } else {
      ASSERT_TRUE(text.ok()) << text.status() << "\nbut jinja2 renders " << recorded["text"];
      EXPECT_EQ(*text, recorded["text"].get<std::string>());
    }
  }
}

std::filesystem::path TemplateFolder() {
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  return data == nullptr ? std::filesystem::path()
                         : std::filesystem::path(data) / "tokenizers" / "chat_templates";
}

// The templates of public checkpoints, against what jinja2 made of them.
TEST(ChatTemplate, RendersCheckpointsAsRecorded) {
  const std::filesystem::path folder = TemplateFolder();
  if (folder.empty()) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set";
  const ChatJson conversations = ReadJson("conversations.json");
  const ChatJson recorded = ReadJson("checkpoints.json");
  ASSERT_GE(recorded.size(), 17u);
  for (const auto& [name, results] : recorded.items()) {
    const std::string source = ReadFile(folder / name);
    for (size_t i = 0; i < conversations.size(); ++i) {
      SCOPED_TRACE(absl::StrCat(name, ", conversation ", i));
      const auto text = Render(source, conversations[i]);
      if (results[i] == "error") {
        EXPECT_FALSE(text.ok()) << *text;
      } else {
        ASSERT_TRUE(text.ok()) << text.status();
        EXPECT_EQ(text->size(), results[i][0].get<size_t>());
        EXPECT_EQ(Fnv1a(*text), results[i][1].get<std::string>());
      }
    }
  }
}

class ConversationMaker {
 public:
  explicit ConversationMaker(unsigned seed) : random_(seed) {}

  ChatJson Make() {
    ChatJson conversation;
    ChatJson& messages = conversation["messages"] = ChatJson::array();
    if (Chance(2)) messages.push_back({{"role", "system"}, {"content", Text()}});
    for (size_t turns = 1 + random_() % 4; turns > 0; --turns) {
      messages.push_back({{"role", "user"}, {"content", Text()}});
      if (Chance(3)) AddToolRound(messages);
      if (turns > 1 || Chance(3)) messages.push_back({{"role", "assistant"}, {"content", Text()}});
    }
    // Now and then the order is wrong.
    if (Chance(8)) std::swap(messages[0], messages[random_() % messages.size()]);
    if (Chance(2)) {
      for (size_t i = random_() % 4; i > 0; --i) conversation["tools"].push_back(Tool());
    }
    conversation["add_generation_prompt"] = Chance(2);
    conversation["variables"] = {{"functions", Text()}, {"datetime", "now"}};
    return conversation;
  }

 private:
  bool Chance(unsigned one_in) { return random_() % one_in == 0; }

  std::string Text() {
    static const char* kPieces[] = {"Hello",    " ",      "\n",      "é",    "日本", "🎉",    "<b>",
                                    "\"q\"",    "'",      "\\",      "\t",   "&",    "{{",   "%}",
                                    "</think>", "\u2028", "a\u0301", "شكرا", "0",    "\x7f", "end"};
    std::string text;
    for (size_t i = random_() % 6; i > 0; --i) text += kPieces[random_() % std::size(kPieces)];
    return text;
  }

  ChatJson Scalar() {
    switch (random_() % 7) {
      case 0:
        return nullptr;
      case 1:
        return Chance(2);
      case 2:
        return static_cast<int64_t>(random_()) - (1 << 30);
      case 3:
        return static_cast<double>(random_() % 1000) / 8;
      case 4:
        return 1e-7 * static_cast<double>(random_() % 100 + 1);
      default:
        return Text();
    }
  }

  ChatJson Object(int depth) {
    ChatJson object = ChatJson::object();
    for (size_t i = random_() % 4; i > 0; --i) {
      const std::string key = absl::StrCat(std::string(1, static_cast<char>('a' + random_() % 26)),
                                           Text().substr(0, 0), i);
      if (depth > 0 && Chance(3)) {
        object[key] = Object(depth - 1);
      } else if (Chance(4)) {
        object[key] = ChatJson::array({Scalar(), Scalar()});
      } else {
        object[key] = Scalar();
      }
    }
    return object;
  }

  void AddToolRound(ChatJson& messages) {
    ChatJson calls = ChatJson::array();
    const size_t count = 1 + random_() % 2;
    for (size_t i = 0; i < count; ++i) {
      ChatJson arguments = Object(2);
      if (Chance(2)) arguments = arguments.dump();
      calls.push_back({{"id", absl::StrCat("call0000", i)},
                       {"type", "function"},
                       {"function", {{"name", "f"}, {"arguments", arguments}}}});
    }
    ChatJson assistant = {{"role", "assistant"}};
    if (!Chance(3)) assistant["content"] = Chance(2) ? ChatJson(Text()) : ChatJson();
    assistant["tool_calls"] = calls;
    messages.push_back(assistant);
    for (size_t i = 0; i < count; ++i) {
      messages.push_back({{"role", "tool"},
                          {"tool_call_id", absl::StrCat("call0000", i)},
                          {"name", "f"},
                          {"content", Text()}});
    }
  }

  ChatJson Tool() {
    static const char* kTypes[] = {"string", "integer", "boolean", "number"};
    ChatJson properties = ChatJson::object();
    for (size_t i = random_() % 4; i > 0; --i) {
      properties[absl::StrCat("p", i)] = {{"type", kTypes[random_() % std::size(kTypes)]},
                                          {"description", Text()}};
    }
    ChatJson parameters = {{"type", "object"}, {"properties", properties}};
    if (Chance(2)) parameters["required"] = ChatJson::array({"p1"});
    return {{"type", "function"},
            {"function", {{"name", "f"}, {"description", Text()}, {"parameters", parameters}}}};
  }

  std::mt19937 random_;
};

// The same conversations through jinja2, as many as the templates are.
TEST(ChatTemplate, EqualsJinja2OnRandomConversations) {
  const char* python = std::getenv("OCTOGATE_PYTHON");
  const std::filesystem::path folder = TemplateFolder();
  if (python == nullptr || folder.empty() ||
      std::system(absl::StrCat(python, " -c 'import jinja2' 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << "needs OCTOGATE_TEST_DATA, and jinja2 in OCTOGATE_PYTHON";
  }
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  ConversationMaker maker(seed);
  std::vector<std::string> sources;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".jinja") sources.push_back(ReadFile(entry.path()));
  }
  ASSERT_GE(sources.size(), 17u);

  struct Case {
    const std::string* source;
    ChatJson conversation;
  };
  std::vector<Case> cases;
  std::string requests;
  for (int round = 0; round < 60; ++round) {
    for (const std::string& source : sources) {
      ChatJson conversation = maker.Make();
      ChatJson request = conversation;
      request["template"] = source;
      request["now"] = 1732294800;
      request["variables"]["bos_token"] = "<s>";
      request["variables"]["eos_token"] = "</s>";
      requests += request.dump() + "\n";
      cases.push_back({&source, std::move(conversation)});
    }
  }
  const TestFolder work;
  const auto results_path = work.path() / "results";
  const std::string command =
      absl::StrCat(python, " -B ", kFixtures, "/reference.py ",
                   work.Write("requests", requests).string(), " ", results_path.string());
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  std::ifstream results(results_path);
  std::string line;
  size_t rendered = 0;
  for (const Case& sample : cases) {
    ASSERT_TRUE(std::getline(results, line));
    const ChatJson expected = ChatJson::parse(line);
    const auto text = Render(*sample.source, sample.conversation);
    SCOPED_TRACE(sample.conversation.dump());
    if (expected.contains("error")) {
      ASSERT_FALSE(text.ok()) << *text << "\nbut jinja2 fails with " << expected["error"];
    } else {
      ASSERT_TRUE(text.ok()) << text.status();
      ASSERT_EQ(*text, expected["text"].get<std::string>());
      ++rendered;
    }
  }
  EXPECT_GT(rendered, cases.size() / 3) << "most conversations should render";
}

TEST(ChatTemplate, ReportsItsOwnRefusal) {
  const auto text = RenderText("a\n{{ raise_exception('Roles must alternate\\n') }}");
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(text.status().message()), HasSubstr("Roles must alternate\\n"));
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  EXPECT_THAT(std::string(RenderText("a\nb\n{{ 1 + 'x' }}").status().message()),
              HasSubstr("line 3"));
  EXPECT_THAT(std::string(RenderText("a\n{{ 1 + }}").status().message()),
              HasSubstr("line 2, column 8"));
}

TEST(ChatTemplate, EveryLimitHolds) {
  const char* hungry[] = {
      "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
      "{% endfor %}{% endfor %}{% endfor %}",
      "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'xxxxxxxxxxxxxxxx' }}"
      "{% endfor %}{% endfor %}",
      "{{ 'x' * 1000000000000 }}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}"
      "{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}"
      "{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}"
      "{% endfor %}",
      "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = {'a': ns.d} %}"
      "{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% endfor %}{{ ns.l | tojson }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% endfor %}{% set m = namespace(l=[1]) %}{% for i in range(60) %}"
      "{% set m.l = [m.l, m.l] %}{% endfor %}{{ ns.l == m.l }}",
      "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m(x) %}{{ m(x + [x]) }}{% endmacro %}{{ m([]) }}",
      "{{ 2 ** 100000 }}",
      "{% set ns = namespace(i=2) %}{% for i in range(99) %}{% set ns.i = ns.i * ns.i %}"
      "{% endfor %}",
      "{{ 'a' | center(100000000000) }}",
      "{% set s = 'ab' * 1000000 %}{% for i in range(99999) %}{% set t = s | replace('a', 'bb') %}"
      "{% endfor %}",
      "{% set s = 'ab' * 1000000 %}{% for i in range(99999) %}{% if 'x' in s %}{% endif %}"
      "{% endfor %}",
      "{{ range(1000000000) }}",
  };
  for (const char* source : hungry) {
    SCOPED_TRACE(source);
    EXPECT_EQ(RenderText(source).status().code(), absl::StatusCode::kResourceExhausted)
        << RenderText(source).status();
  }
}

TEST(ChatTemplate, DeepNestingInTheSourceIsRefused) {
  const auto repeat = [](std::string_view text, int times) {
    std::string out;
    for (int i = 0; i < times; ++i) out += text;
    return out;
  };
  const std::string deep[] = {
      "{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}",
      "{{ " + repeat("[", 100000) + repeat("]", 100000) + " }}",
      "{{ " + repeat("-", 100000) + "1 }}",
      "{{ " + repeat("not ", 100000) + "1 }}",
      "{{ 1" + repeat(" + 1", 100000) + " }}",
      "{{ x" + repeat(".y", 100000) + " }}",
      "{{ x" + repeat("|upper", 100000) + " }}",
      "{{ x" + repeat("()", 100000) + " }}",
      "{{ 1" + repeat(" if 1 else 1", 50000) + " }}",
      repeat("{% if 1 %}", 50000),
      repeat("{% for x in [1] %}", 50000),
  };
  for (const std::string& source : deep) {
    SCOPED_TRACE(source.substr(0, 40));
    EXPECT_EQ(ChatTemplate::Parse(source, "", "").status().code(),
              absl::StatusCode::kResourceExhausted);
  }
  EXPECT_EQ(ChatTemplate::Parse(std::string(2 << 20, 'x'), "", "").status().code(),
            absl::StatusCode::kResourceExhausted);
  const std::string flat = "{{ 1" + repeat(" ~ 1", 10000) + repeat(" or 1", 10000) + " }}";
  EXPECT_TRUE(ChatTemplate::Parse(flat, "", "").ok());
}

TEST(ChatTemplate, RefusesMessagesThatAreNoConversation) {
  const auto parsed = ChatTemplate::Parse("{{ messages | length }}", "", "");
  ASSERT_TRUE(parsed.ok());
  const ChatJson bad[] = {nullptr,
                          3,
                          ChatJson::object(),
                          ChatJson::array({1}),
                          ChatJson::array({{{"content", "x"}}}),
                          ChatJson::array({{{"role", 1}}}),
                          ChatJson::array({{{"role", "user"}, {"content", "\xff"}}})};
  for (const ChatJson& messages : bad) {
    EXPECT_EQ(parsed->Render(messages, {}).status().code(), absl::StatusCode::kInvalidArgument);
  }
  ChatJson deep = "x";
  for (int i = 0; i < 1000; ++i) deep = ChatJson::array({deep});
  EXPECT_EQ(
      parsed->Render(ChatJson::array({{{"role", "user"}, {"content", deep}}}), {}).status().code(),
      absl::StatusCode::kResourceExhausted);
  ChatRenderOptions options;
  options.variables = {{"messages", "x"}};
  EXPECT_EQ(parsed->Render(ChatJson::array(), options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.variables = 3;
  EXPECT_FALSE(parsed->Render(ChatJson::array(), options).ok());
  options.variables = nullptr;
  options.tools = "x";
  EXPECT_FALSE(parsed->Render(ChatJson::array(), options).ok());
}

std::string RenderLoaded(const TestFolder& folder, const char* name = "default") {
  const auto loaded = ChatTemplate::Load(folder.path(), name);
  if (!loaded.ok()) return std::string(absl::StatusCodeToString(loaded.status().code()));
  return loaded->Render(ChatJson::array(), {}).value();
}

TEST(ChatTemplate, LoadsWhatCheckpointFoldersHold) {
  const TestFolder folder;
  EXPECT_EQ(RenderLoaded(folder), "FAILED_PRECONDITION");
  folder.Write("tokenizer_config.json", "[]");
  EXPECT_EQ(RenderLoaded(folder), "INVALID_ARGUMENT");
  folder.Write("tokenizer_config.json", R"({"chat_template": 3})");
  EXPECT_EQ(RenderLoaded(folder), "INVALID_ARGUMENT");
  folder.Write("tokenizer_config.json",
               R"({"chat_template": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}",
                   "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}})");
  EXPECT_EQ(RenderLoaded(folder), "<s>|</s>|");
  folder.Write("special_tokens_map.json", R"({"bos_token": "x", "pad_token": "<pad>"})");
  EXPECT_EQ(RenderLoaded(folder), "<s>|</s>|<pad>");
  EXPECT_EQ(RenderLoaded(folder, "tool_use"), "NOT_FOUND");
  folder.Write("tokenizer_config.json",
               R"({"chat_template": [{"name": "default", "template": "one"},
                                     {"name": "tool_use", "template": "two"}]})");
  EXPECT_EQ(RenderLoaded(folder), "one");
  EXPECT_EQ(RenderLoaded(folder, "tool_use"), "two");
  EXPECT_THAT(std::string(ChatTemplate::Load(folder.path(), "rag").status().message()),
              HasSubstr("default, tool_use"));
  EXPECT_EQ(RenderLoaded(folder, "../../etc/x"), "NOT_FOUND");
  folder.Write("chat_template.jinja", "three");
  EXPECT_EQ(RenderLoaded(folder), "three");
  EXPECT_EQ(RenderLoaded(folder, "tool_use"), "two");
  folder.Write("chat_template.jinja", "{% if %}");
  EXPECT_EQ(RenderLoaded(folder), "INVALID_ARGUMENT");
}

TEST(ChatTemplate, RandomSourcesNeverCrash) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  static const char* kPieces[] = {
      "{{",   "}}",       "{%",     "%}",     "{#",     "#}",      " if ",     " for ",    " in ",
      " x ",  "messages", "(",      ")",      "[",      "]",       "{",        "}",        "'a'",
      "1",    " + ",      " ~ ",    "|",      "upper",  ".",       ",",        ":",        "=",
      " is ", "none",     " else ", "endif",  "endfor", " set ",   "macro m(", "endmacro", "m(",
      "-",    "loop",     "**",     "tojson", "map(",   "'items'", "range(",   "%",        "\n"};
  for (int round = 0; round < 20000; ++round) {
    std::string source;
    for (size_t i = random() % 20; i > 0; --i) source += kPieces[random() % std::size(kPieces)];
    (void)RenderText(source);
  }
}

}  // namespace
}  // namespace octogate::workers
