#include <algorithm>
#include <map>

#include "common/backend.h"

namespace fishermask::cuda {
namespace {

std::map<std::string, KernelMaker, std::less<>>& makers() {
  static std::map<std::string, KernelMaker, std::less<>> all;
  return all;
}

}  // namespace

int register_cuda_op(const char* name, KernelMaker maker) {
  makers().emplace(name, maker);
  return static_cast<int>(makers().size());
}

KernelMaker find_cuda_op(std::string_view name) {
  const auto found = makers().find(name);
  return found == makers().end() ? nullptr : found->second;
}

std::vector<std::string> cuda_op_names() {
  std::vector<std::string> names;
  for (const auto& [name, maker] : makers()) names.push_back(name);
  return names;
}

}  // namespace fishermask::cuda
