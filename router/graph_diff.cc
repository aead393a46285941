#include "router/graph_diff.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/util/message_differencer.h"
#include "router/graph_schema.h"
#include "router/manifest_writer.h"

namespace octogate::router {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::util::MessageDifferencer;

constexpr size_t kMaxValueBytes = 4096;

// The entries of a repeated field by the names that paths give them.
struct Entries {
  std::vector<std::string> names;
  absl::flat_hash_map<std::string, int> index;
};

class Differ {
 public:
  std::vector<v1::GraphChange> Run(const v1::Graph& before, const v1::Graph& after) {
    DiffFields("metadata.", before.metadata(), after.metadata());
    DiffFields("", before.spec(), after.spec());
    return std::move(changes_);
  }

 private:
  void Add(v1::ChangeKind kind, std::string path, std::string before, std::string after) {
    v1::GraphChange& change = changes_.emplace_back();
    change.set_kind(kind);
    change.set_path(std::move(path));
    change.set_before(Cut(std::move(before)));
    change.set_after(Cut(std::move(after)));
  }

  static std::string Cut(std::string value) {
    if (value.size() <= kMaxValueBytes) return value;
    size_t size = kMaxValueBytes;
    // Not within a UTF-8 character.
    while (size > 0 && (static_cast<unsigned char>(value[size]) & 0xC0) == 0x80) --size;
    return absl::StrCat(value.substr(0, size), "…");
  }

  static std::string ValueOf(const Message& message, const FieldDescriptor& field, int index) {
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return ValueToText(message, field, index);
    }
    const Reflection& reflection = *message.GetReflection();
    return MessageToYaml(index >= 0 ? reflection.GetRepeatedMessage(message, &field, index)
                                    : reflection.GetMessage(message, &field));
  }

  // `prefix` ends with "." unless it is empty.
  void DiffFields(const std::string& prefix, const Message& before, const Message& after) {
    const Reflection& reflection = *before.GetReflection();
    for (int i = 0; i < before.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor& field = *before.GetDescriptor()->field(i);
      const std::string path = absl::StrCat(prefix, field.json_name());
      if (field.is_repeated()) {
        DiffRepeated(path, field, before, after);
        continue;
      }
      const bool had = reflection.HasField(before, &field);
      const bool has = reflection.HasField(after, &field);
      if (had && has && field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        DiffFields(path + ".", reflection.GetMessage(before, &field),
                   reflection.GetMessage(after, &field));
        continue;
      }
      const std::string old_value = had ? ValueOf(before, field, -1) : "";
      const std::string new_value = has ? ValueOf(after, field, -1) : "";
      if (had && has && old_value != new_value) {
        Add(v1::CHANGE_KIND_MODIFIED, path, old_value, new_value);
      } else if (had != has) {
        Add(has ? v1::CHANGE_KIND_ADDED : v1::CHANGE_KIND_REMOVED, path, old_value, new_value);
      }
    }
  }

  // What an entry is told by: its name, its content, or else its place.
  static std::string KeyOf(const Message& message, const FieldDescriptor& field, int index) {
    const Reflection& reflection = *message.GetReflection();
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return ValueToText(message, field, index);
    }
    const Message& entry = reflection.GetRepeatedMessage(message, &field, index);
    const auto& type = *entry.GetDescriptor();
    if (field.is_map()) return ValueToText(entry, *type.map_key(), -1);
    if (const auto* name = type.FindFieldByName("name")) return ValueToText(entry, *name, -1);
    if (const auto* from = type.FindFieldByName("from")) {
      return absl::StrCat(ValueToText(entry, *from, -1), "->",
                          ValueToText(entry, *type.FindFieldByName("to"), -1), " on ",
                          ValueToText(entry, *type.FindFieldByName("on"), -1));
    }
    return absl::StrCat(index);
  }

  static Entries EntriesOf(const Message& message, const FieldDescriptor& field) {
    Entries entries;
    absl::flat_hash_map<std::string, int> seen;
    for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i) {
      std::string name = KeyOf(message, field, i);
      const int count = ++seen[name];
      if (count > 1) absl::StrAppend(&name, "#", count);
      // A text that looks like the second of another one is told by its place as well.
      while (!entries.index.try_emplace(name, i).second) absl::StrAppend(&name, "@", i);
      entries.names.push_back(std::move(name));
    }
    return entries;
  }

  void DiffRepeated(const std::string& path, const FieldDescriptor& field, const Message& before,
                    const Message& after) {
    const Entries old_entries = EntriesOf(before, field);
    const Entries new_entries = EntriesOf(after, field);
    const bool text = field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE;
    const auto entry_path = [&](const Entries& entries, int i) {
      return absl::StrCat(path, "[", text ? absl::StrCat(i) : entries.names[i], "]");
    };
    std::vector<std::string_view> old_common;
    for (int i = 0; i < static_cast<int>(old_entries.names.size()); ++i) {
      if (new_entries.index.contains(old_entries.names[i])) {
        old_common.push_back(old_entries.names[i]);
      } else {
        Add(v1::CHANGE_KIND_REMOVED, entry_path(old_entries, i), ValueOf(before, field, i), "");
      }
    }
    std::vector<std::string_view> new_common;
    for (int i = 0; i < static_cast<int>(new_entries.names.size()); ++i) {
      const auto old = old_entries.index.find(new_entries.names[i]);
      if (old == old_entries.index.end()) {
        Add(v1::CHANGE_KIND_ADDED, entry_path(new_entries, i), "", ValueOf(after, field, i));
        continue;
      }
      new_common.push_back(new_entries.names[i]);
      if (!text) DiffEntry(entry_path(new_entries, i), field, before, old->second, after, i);
    }
    if (old_common != new_common && !field.is_map()) {
      const auto join = [](const std::vector<std::string_view>& names) {
        return absl::StrJoin(names, ", ",
                             [](std::string* out, std::string_view name) { out->append(name); });
      };
      Add(v1::CHANGE_KIND_MODIFIED, path + " order", join(old_common), join(new_common));
    }
  }

  void DiffEntry(const std::string& path, const FieldDescriptor& field, const Message& before,
                 int old_index, const Message& after, int new_index) {
    const Message& old_entry =
        before.GetReflection()->GetRepeatedMessage(before, &field, old_index);
    const Message& new_entry = after.GetReflection()->GetRepeatedMessage(after, &field, new_index);
    if (!field.is_map()) return DiffFields(path + ".", old_entry, new_entry);
    const FieldDescriptor& value = *field.message_type()->map_value();
    const std::string old_value = ValueToText(old_entry, value, -1);
    const std::string new_value = ValueToText(new_entry, value, -1);
    if (old_value != new_value) Add(v1::CHANGE_KIND_MODIFIED, path, old_value, new_value);
  }

  std::vector<v1::GraphChange> changes_;
};

}  // namespace

std::vector<v1::GraphChange> DiffGraphs(const v1::Graph& before, const v1::Graph& after) {
  // Most graphs that are compared are equal.
  if (MessageDifferencer::Equals(before, after)) return {};
  return Differ().Run(before, after);
}

}  // namespace octogate::router
