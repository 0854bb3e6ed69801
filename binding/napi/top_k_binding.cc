#include "napi/top_k_binding.h"

#include <thread>

#include "core/parallel.h"
#include "mask/top_k.h"
#include "mask/top_k_disk.h"
#include "napi/arguments.h"

namespace fishermask::napi {
namespace {

// Arrays of JavaScript that are read, and weights that are written, in place; dropped on the
// JavaScript thread.
using Held = std::vector<Napi::ObjectReference>;

// What both forms are told beside their tensors.
struct Job {
  ScoreProgram program;
  ScoreSettings settings;
  TopKAmount amount;
  TopKControl control;
  int threads = 1;
  bool keep_old_values = false;
};

ScoreProgram program_value(const Napi::Object& object) {
  const auto ops = array_copy<std::uint8_t>(object.Get("ops"), "the score program's ops");
  const auto values = array_copy<float>(object.Get("values"), "the score program's values");
  FM_CHECK(ops.size() == values.size(), ARGUMENT, "expected as many values as ops but received ",
           values.size(), " and ", ops.size());
  std::vector<ScoreInstruction> instructions;
  instructions.reserve(ops.size());
  for (std::size_t i = 0; i < ops.size(); ++i) {
    instructions.push_back({score_op_from_number(ops[i]), values[i]});
  }
  return ScoreProgram(std::move(instructions));
}

TopKAmount amount_value(const Napi::Object& object) {
  TopKAmount amount;
  amount.scope = parse_scope(string_member(object, "scope", "global"));
  if (object.Get("k").IsUndefined()) {
    amount.ratio = number_value(object.Get("ratio"), "ratio");
    return amount;
  }
  amount.k = integer_value(object.Get("k"), "k");
  FM_CHECK(amount.scope == Scope::kGlobal, ARGUMENT, "k needs the scope global; give a ratio");
  return amount;
}

// Int32Array (2,): [0] cancels when it is not 0, [1] takes how far the work is, in per mille.
TopKControl control_value(const Napi::Value& value, Held& held) {
  if (value.IsUndefined()) return {};
  const TensorView view = array_view(value, "control");
  FM_CHECK(view.dtype == DType::kI32 && view.count() == 2, ARGUMENT,
           "expected an Int32Array of 2 for control but received ", dtype_name(view.dtype), " of ",
           view.count());
  held.push_back(Napi::Persistent(value.As<Napi::Object>()));
  return {view.as<std::int32_t>(), view.as<std::int32_t>() + 1};
}

std::shared_ptr<Job> job_value(const Napi::Object& object, Held& held) {
  auto job = std::make_shared<Job>(Job{program_value(object), {}, {}, {}, 1, false});
  job->threads = static_cast<int>(number_member(
      object, "threads", static_cast<double>(std::max(std::thread::hardware_concurrency(), 1U))));
  job->settings.unit = parse_unit(string_member(object, "unit", "weight"));
  job->settings.forget_count = integer_value(object.Get("forgetCount"), "forgetCount");
  job->settings.remain_count = integer_value(object.Get("remainCount"), "remainCount");
  job->settings.key.seed = static_cast<std::uint64_t>(number_member(object, "seed", 0.0));
  job->amount = amount_value(object);
  job->control = control_value(object.Get("control"), held);
  job->keep_old_values = boolean_member(object, "oldValues", false);
  return job;
}

Napi::Array list_value(const Napi::Object& object, const char* name) {
  FM_CHECK(object.Get(name).IsArray(), ARGUMENT, "expected a list for ", name);
  return object.Get(name).As<Napi::Array>();
}

Shape shape_value(const Napi::Value& value) {
  FM_CHECK(value.IsArray(), ARGUMENT, "expected a list of sizes for shape");
  const auto list = value.As<Napi::Array>();
  Shape shape;
  for (std::uint32_t i = 0; i < list.Length(); ++i) {
    shape.push_back(integer_value(list.Get(i), "a size of shape"));
  }
  return shape;
}

// A Float32Array of `count` elements in place, or null where it is left out.
float* floats_member(const Napi::Object& item, const char* key, std::int64_t count,
                     const std::string& tensor, Held& held) {
  const Napi::Value value = item.Get(key);
  if (value.IsUndefined() || value.IsNull()) return nullptr;
  const TensorView view = array_view(value, key);
  FM_CHECK(view.dtype == DType::kF32, DTYPE, "expected a Float32Array for ", key);
  FM_CHECK(view.count() == count, SHAPE, "expected ", count, " values for the ", key,
           " of tensor '", tensor, "' but received ", view.count());
  held.push_back(Napi::Persistent(value.As<Napi::Object>()));
  return view.as<float>();
}

Napi::Object ranking_value(Napi::Env env, const Ranking& ranking, const TopKWork& work) {
  Napi::Object item = Napi::Object::New(env);
  item.Set("units", static_cast<double>(ranking.units));
  item.Set("eligible", static_cast<double>(ranking.eligible));
  item.Set("asked", static_cast<double>(ranking.asked));
  item.Set("masked", static_cast<double>(ranking.masked));
  item.Set("threshold", ranking.threshold ? Napi::Value(Napi::Number::New(
                                                env, static_cast<double>(*ranking.threshold)))
                                          : Napi::Value(env.Null()));
  item.Set("candidates", static_cast<double>(work.candidates));
  item.Set("bracketMissed", work.bracket_missed);
  item.Set("passes", work.passes);
  return item;
}

Napi::Object result_value(Napi::Env env, const TopKResult& result) {
  const Selection& selection = result.selection;
  Napi::Object out = Napi::Object::New(env);
  Napi::Array masks = Napi::Array::New(env, selection.masks.size());
  Napi::Array masked = Napi::Array::New(env, selection.masked.size());
  for (std::uint32_t i = 0; i < selection.masks.size(); ++i) {
    masks.Set(i, byte_array(env, selection.masks[i].bits));
    masked.Set(i, static_cast<double>(selection.masked[i]));
  }
  Napi::Array rankings = Napi::Array::New(env, selection.rankings.size());
  for (std::uint32_t i = 0; i < selection.rankings.size(); ++i) {
    rankings.Set(i, ranking_value(env, selection.rankings[i], result.work[i]));
  }
  Napi::Array old_values = Napi::Array::New(env, result.old_values.size());
  for (std::uint32_t i = 0; i < result.old_values.size(); ++i) {
    old_values.Set(i, float_array(env, result.old_values[i]));
  }
  out.Set("masks", masks);
  out.Set("masked", masked);
  out.Set("rankings", rankings);
  out.Set("oldValues", old_values);
  out.Set("totalUnits", static_cast<double>(selection.total_units));
  out.Set("totalMasked", static_cast<double>(selection.total_masked));
  return out;
}

// maskTopK({ops, values, unit, forgetCount, remainCount, seed, threads, scope, ratio | k,
// oldValues?, control?, tensors}) -> Promise; the tensors' weights are changed.
Napi::Value mask_in_memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object object = object_value(info[0], "the masking");
    auto held = std::make_shared<Held>();
    const std::shared_ptr<Job> job = job_value(object, *held);
    auto tensors = std::make_shared<std::vector<TopKTensor>>();
    const Napi::Array list = list_value(object, "tensors");
    std::uint64_t first = 0;
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      const Napi::Object item = object_value(list.Get(i), "a tensor");
      TopKTensor tensor;
      tensor.name = string_value(item.Get("name"), "a tensor's name");
      tensor.shape = shape_value(item.Get("shape"));
      const std::int64_t count = element_count(tensor.shape);
      const auto floats = [&](const char* key) {
        return floats_member(item, key, count, tensor.name, *held);
      };
      tensor.weight = floats("weight");
      tensor.forget_sums = floats("forget");
      tensor.remain_sums = floats("remain");
      tensor.forget_gradient_sums = floats("gradient");
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
    auto held = std::make_shared<Held>();
    const std::shared_ptr<Job> job = job_value(object, *held);
    auto files = std::make_shared<TopKFiles>();
    files->inputs = string_list(object.Get("inputs"), "inputs");
    files->outputs = string_list(object.Get("outputs"), "outputs");
    files->remain_includes_forget = boolean_member(object, "remainIncludesForget", false);
    auto tensors = std::make_shared<std::vector<TopKDiskTensor>>();
    const Napi::Array list = list_value(object, "tensors");
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
