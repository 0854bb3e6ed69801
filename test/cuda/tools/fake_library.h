// A stand-in for one of NVIDIA's libraries, built beside the tests, and devices that load it.
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/device.h"

namespace fishermask::test {

// Beside this program; empty where it was not built.
inline std::string fake_library_path(const std::string& name) {
  const auto path =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / ("lib" + name + ".so");
  return std::filesystem::exists(path) ? path.string() : std::string();
}

// An environment variable for as long as this lives.
class WithEnvironment {
 public:
  WithEnvironment(const char* name, const std::string& value) : name_(name) {
    if (const char* const before = std::getenv(name)) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  WithEnvironment(const WithEnvironment&) = delete;
  WithEnvironment& operator=(const WithEnvironment&) = delete;
  ~WithEnvironment() {
    if (before_) {
      setenv(name_, before_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

// A device of its own, opened while `variable` names `library` (a path, or "off").
inline std::shared_ptr<Device> device_with(const char* variable, const std::string& library,
                                           Precision precision) {
  const WithEnvironment with(variable, library);
  DeviceOptions options;
  options.precision = precision;
  return open_cuda_device(options);
}

// The functions PREFIX_behave and PREFIX_count of a stand-in, which it keeps loaded.
class FakeLibrary {
 public:
  FakeLibrary(const std::string& path, const std::string& prefix)
      : library_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL), dlclose) {
    FM_CHECK(library_ != nullptr, INTERNAL, "could not load ", path);
    behave_ = reinterpret_cast<void (*)(const char*)>(symbol(prefix + "_behave"));
    count_ = reinterpret_cast<std::int64_t (*)(const char*)>(symbol(prefix + "_count"));
  }
  // From now on; all counts start at 0.
  void behave(const char* as) const { behave_(as); }
  [[nodiscard]] std::int64_t count(const std::string& name) const { return count_(name.c_str()); }

 private:
  [[nodiscard]] void* symbol(const std::string& name) const {
    void* const found = dlsym(library_.get(), name.c_str());
    FM_CHECK(found != nullptr, INTERNAL, "the stand-in has no function ", name);
    return found;
  }
  std::unique_ptr<void, int (*)(void*)> library_;
  void (*behave_)(const char*) = nullptr;
  std::int64_t (*count_)(const char*) = nullptr;
};

}  // namespace fishermask::test
