#include "napi/device_binding.h"

#include "napi/arguments.h"
#include "napi/instance.h"

namespace fishermask::napi {
namespace {

using Handle = Napi::External<std::shared_ptr<Device>>;
// Of handles: another addon's External is not taken for one.
constexpr napi_type_tag kDeviceTag = {0x66697368'65726d61ULL, 0x736b2d64'65766963ULL};

Napi::Object info_value(Napi::Env env, const DeviceInfo& info) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("kind", info.kind);
  out.Set("index", info.index);
  out.Set("name", info.name);
  out.Set("memoryBytes", static_cast<double>(info.memory_bytes));
  out.Set("computeCapability", info.compute_capability);
  out.Set("processors", info.processors);
  out.Set("emulated", info.emulated);
  out.Set("matmulLibrary", info.matmul_library);
  out.Set("convolutionLibrary", info.convolution_library);
  return out;
}

// cudaLibrary() -> path
Napi::Value library(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), cuda_library_path());
}

// cudaAvailability() -> Promise<{devices: info[], reason}>
Napi::Value availability(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return post_job<CudaAvailability>(
        info.Env(), *instance_of(info.Env()).engine, [] { return cuda_availability(); },
        [](Napi::Env env, CudaAvailability& found) -> Napi::Value {
          Napi::Array devices = Napi::Array::New(env);
          for (const DeviceInfo& one : found.infos) {
            devices.Set(devices.Length(), info_value(env, one));
          }
          Napi::Object out = Napi::Object::New(env);
          out.Set("devices", devices);
          out.Set("reason", found.reason);
          return out;
        });
  });
}

// openCudaDevice(index, precision) -> Promise<{handle, info, ops: string[]}>
Napi::Value open_device(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    DeviceOptions options;
    options.index = static_cast<int>(integer_value(info[0], "the device's index"));
    options.precision = parse_precision(string_value(info[1], "precision"));
    return post_job<std::shared_ptr<Device>>(
        info.Env(), *instance_of(info.Env()).engine,
        [options] { return open_cuda_device(options); },
        [](Napi::Env env, std::shared_ptr<Device>& device) -> Napi::Value {
          const Handle handle =
              Handle::New(env, new std::shared_ptr<Device>(device),
                          [](Napi::Env /*env*/, std::shared_ptr<Device>* held) { delete held; });
          handle.TypeTag(&kDeviceTag);
          Napi::Array ops = Napi::Array::New(env);
          for (const std::string& name : device->op_names()) ops.Set(ops.Length(), name);
          Napi::Object out = Napi::Object::New(env);
          out.Set("handle", handle);
          out.Set("info", info_value(env, device->info()));
          out.Set("ops", ops);
          return out;
        });
  });
}

}  // namespace

std::shared_ptr<Device> device_value(const Napi::Value& value) {
  if (value.IsUndefined()) return nullptr;
  FM_CHECK(value.IsExternal() && value.As<Handle>().CheckTypeTag(&kDeviceTag), ARGUMENT,
           "expected an opened device for device");
  return *value.As<Handle>().Data();
}

void define_device_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("cudaLibrary", Napi::Function::New(env, library, "cudaLibrary"));
  exports.Set("cudaAvailability", Napi::Function::New(env, availability, "cudaAvailability"));
  exports.Set("openCudaDevice", Napi::Function::New(env, open_device, "openCudaDevice"));
}

}  // namespace fishermask::napi
