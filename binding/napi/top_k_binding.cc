#include "napi/top_k_binding.h"

#include "core/parallel.h"
#include "mask/top_k.h"
#include "mask/top_k_disk.h"
#include "napi/mask_values.h"

namespace fishermask::napi {
namespace {

// What both forms are told beside their tensors.
struct Job {
  ScoreProgram program;
  ScoreSettings settings;
  TopKAmount amount;
  TopKControl control;
  int threads = 1;
  bool keep_old_values = false;
};

// Int32Array (2,): [0] cancels when it is not 0, [1] takes how far the work is, in per mille.
TopKControl control_value(const Napi::Value& value, HeldArrays& held) {
  if (value.IsUndefined()) return {};
  const TensorView view = array_view(value, "control");
  FM_CHECK(view.dtype == DType::kI32 && view.count() == 2, ARGUMENT,
           "expected an Int32Array of 2 for control but received ", dtype_name(view.dtype), " of ",
           view.count());
  held.push_back(Napi::Persistent(value.As<Napi::Object>()));
  return {view.as<std::int32_t>(), view.as<std::int32_t>() + 1};
}

std::shared_ptr<Job> job_value(const Napi::Object& object, HeldArrays& held) {
  auto job = std::make_shared<Job>(Job{program_value(object), {}, {}, {}, 1, false});
  job->threads = threads_member(object);
  job->settings = score_settings_value(object);
  job->amount = amount_value(object);
  job->control = control_value(object.Get("control"), held);
  job->keep_old_values = boolean_member(object, "oldValues", false);
  return job;
}

Napi::Object result_value(Napi::Env env, const TopKResult& result) {
  Napi::Object out = selection_value(env, result.selection);
  const auto rankings = out.Get("rankings").As<Napi::Array>();
  for (std::uint32_t i = 0; i < rankings.Length(); ++i) {
    const TopKWork& work = result.work[i];
    auto item = rankings.Get(i).As<Napi::Object>();
    item.Set("candidates", static_cast<double>(work.candidates));
    item.Set("bracketMissed", work.bracket_missed);
    item.Set("passes", work.passes);
  }
  Napi::Array old_values = Napi::Array::New(env, result.old_values.size());
  for (std::uint32_t i = 0; i < result.old_values.size(); ++i) {
    old_values.Set(i, float_array(env, result.old_values[i]));
  }
  out.Set("oldValues", old_values);
  return out;
}

// maskTopK({ops, values, unit, forgetCount, remainCount, seed, threads, scope, ratio | k,
// oldValues?, control?, tensors}) -> Promise; the tensors' weights are changed.
Napi::Value mask_in_memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object object = object_value(info[0], "the masking");
    auto held = std::make_shared<HeldArrays>();
    const std::shared_ptr<Job> job = job_value(object, *held);
    auto tensors = std::make_shared<std::vector<TopKTensor>>();
    const Napi::Array list = list_member(object, "tensors");
    std::uint64_t first = 0;
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      const Napi::Object item = object_value(list.Get(i), "a tensor");
      ScoredArrays arrays = scored_arrays_value(item, *held);
      TopKTensor tensor;
      tensor.name = std::move(arrays.name);
      tensor.shape = std::move(arrays.shape);
      tensor.weight = arrays.weight;
      tensor.forget_sums = arrays.forget_sums;
      tensor.remain_sums = arrays.remain_sums;
      tensor.forget_gradient_sums = arrays.forget_gradient_sums;
      tensor.group = integer_value(item.Get("group"), "group");
      tensor.first_unit = first;
      first += static_cast<std::uint64_t>(unit_count(tensor.shape, job->settings.unit));
      tensors->push_back(std::move(tensor));
    }
    return post_job<TopKResult>(
        info.Env(), *instance_of(info.Env()).engine,
        [job, tensors] {
          set_thread_count(job->threads);
          return mask_top_k(job->program, job->settings, *tensors, job->amount,
                            job->keep_old_values, job->control);
        },
        [held](Napi::Env env, TopKResult& result) -> Napi::Value {
          return result_value(env, result);
        });
  });
}

StoredRange range_member(const Napi::Object& item, const char* key) {
  const Napi::Value value = item.Get(key);
  if (value.IsUndefined() || value.IsNull()) return {};
  const Napi::Object range = object_value(value, key);
  return {integer_value(range.Get("file"), "the file of a range"),
          integer_value(range.Get("offset"), "the offset of a range")};
}

TopKDiskTensor disk_tensor_value(const Napi::Object& item) {
  TopKDiskTensor tensor;
  tensor.name = string_value(item.Get("name"), "a tensor's name");
  tensor.shape = shape_value(item.Get("shape"));
  tensor.type = parse_stored_type(string_value(item.Get("dtype"), "dtype"));
  tensor.weight = range_member(item, "weight");
  tensor.output = range_member(item, "output");
  tensor.forget_sums = range_member(item, "forget");
  tensor.remain_sums = range_member(item, "remain");
  tensor.forget_gradient_sums = range_member(item, "gradient");
  tensor.group = integer_value(item.Get("group"), "group");
  return tensor;
}

// maskTopKOnDisk({..., inputs: string[], outputs: string[], remainIncludesForget, tensors}) ->
// Promise; the outputs' ranges are written.
Napi::Value mask_on_disk(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object object = object_value(info[0], "the masking");
    auto held = std::make_shared<HeldArrays>();
    const std::shared_ptr<Job> job = job_value(object, *held);
    auto files = std::make_shared<TopKFiles>();
    files->inputs = string_list(object.Get("inputs"), "inputs");
    files->outputs = string_list(object.Get("outputs"), "outputs");
    files->remain_includes_forget = boolean_member(object, "remainIncludesForget", false);
    auto tensors = std::make_shared<std::vector<TopKDiskTensor>>();
    const Napi::Array list = list_member(object, "tensors");
    std::uint64_t first = 0;
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      tensors->push_back(disk_tensor_value(object_value(list.Get(i), "a tensor")));
      TopKDiskTensor& tensor = tensors->back();
      tensor.first_unit = first;
      first += static_cast<std::uint64_t>(unit_count(tensor.shape, job->settings.unit));
    }
    return post_job<TopKDiskResult>(
        info.Env(), *instance_of(info.Env()).engine,
        [job, files, tensors] {
          set_thread_count(job->threads);
          return mask_top_k_on_disk(job->program, job->settings, *files, *tensors, job->amount,
                                    job->control);
        },
        [held](Napi::Env env, TopKDiskResult& result) -> Napi::Value {
          Napi::Object out = result_value(env, result.top_k);
          out.Set("bytesRead", static_cast<double>(result.bytes_read));
          out.Set("bytesWritten", static_cast<double>(result.bytes_written));
          return out;
        });
  });
}

}  // namespace

void define_top_k_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("maskTopK", Napi::Function::New(env, mask_in_memory, "maskTopK"));
  exports.Set("maskTopKOnDisk", Napi::Function::New(env, mask_on_disk, "maskTopKOnDisk"));
}

}  // namespace fishermask::napi
