#include "graph/op.h"

namespace fishermask {
namespace {
// A function-local static: registration runs before main, in any order of files.
std::map<std::string, OpDefinition>& registry() {
  static std::map<std::string, OpDefinition> ops;
  return ops;
}
std::string& duplicate_name() {
  static std::string name;
  return name;
}
}  // namespace

int register_op(OpDefinition definition) {
  const std::string name = definition.name;
  if (!registry().emplace(name, std::move(definition)).second) duplicate_name() = name;
  return static_cast<int>(registry().size());
}

const OpDefinition& find_op(const std::string& name) {
  FM_CHECK(duplicate_name().empty(), INTERNAL, "op '", duplicate_name(), "' is registered twice");
  const auto found = registry().find(name);
  if (found == registry().end()) {
    std::string known;
    for (const auto& [op, definition] : registry()) known += (known.empty() ? "" : ", ") + op;
    fail(ErrorCode::kGRAPH, "unknown op '", name, "'; known ops: ", known);
  }
  return found->second;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const auto& [name, definition] : registry()) names.push_back(name);
  return names;
}

}  // namespace fishermask
