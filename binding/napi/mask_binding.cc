#include "napi/mask_binding.h"

#include <thread>

#include "core/parallel.h"
#include "mask/score.h"
#include "mask/score_histogram.h"
#include "mask/select.h"
#include "napi/arguments.h"

namespace fishermask::napi {
namespace {

// JavaScript's arrays are read in place, since they may be as large as the model; the references
// keep them alive and are dropped on the JavaScript thread.
using Held = std::vector<Napi::ObjectReference>;

std::span<const float> held_floats(const Napi::Value& value, const char* name, Held& held) {
  const TensorView view = array_view(value, name);
  FM_CHECK(view.dtype == DType::kF32, DTYPE, "expected a Float32Array for ", name);
  held.push_back(Napi::Persistent(value.As<Napi::Object>()));
  return {view.as<float>(), static_cast<std::size_t>(view.count())};
}

std::span<const float> optional_floats(const Napi::Object& object, const char* key, Held& held) {
  const Napi::Value value = object.Get(key);
  if (value.IsUndefined() || value.IsNull()) return {};
  return held_floats(value, key, held);
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

const float* checked(const std::span<const float>& values, std::int64_t count,
                     const std::string& tensor, const char* what) {
  if (values.data() == nullptr) return nullptr;
  FM_CHECK(static_cast<std::int64_t>(values.size()) == count, SHAPE, "expected ", count,
           " values for the ", what, " of tensor '", tensor, "' but received ", values.size());
  return values.data();
}

int threads_member(const Napi::Object& object) {
  return static_cast<int>(number_member(
      object, "threads", static_cast<double>(std::max(std::thread::hardware_concurrency(), 1U))));
}

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

struct ScoreJob {
  ScoreProgram program;
  ScoreSettings settings;
  std::vector<ScoreTensor> tensors;
  std::vector<std::vector<float>> scores;
  int threads = 1;
};

// Keeps `held` on the JavaScript side of a job.
template <typename Result>
Napi::Promise post_held(Napi::Env env, std::shared_ptr<Held> held, std::function<Result()> work,
                        std::function<Napi::Value(Napi::Env, Result&)> convert) {
  return post_job<Result>(env, *instance_of(env).engine, std::move(work),
                          [held = std::move(held), convert = std::move(convert)](
                              Napi::Env js, Result& result) { return convert(js, result); });
}

// scoreUnits({ops, values, unit, forgetCount, remainCount, seed, threads, tensors}) ->
// Promise<Float32Array[]>
Napi::Value score_units(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object object = object_value(info[0], "the scoring");
    auto held = std::make_shared<Held>();
    auto job = std::make_shared<ScoreJob>(ScoreJob{program_value(object), {}, {}, {}, 1});
    job->threads = threads_member(object);
    job->settings.unit = parse_unit(string_member(object, "unit", "weight"));
    job->settings.forget_count = integer_value(object.Get("forgetCount"), "forgetCount");
    job->settings.remain_count = integer_value(object.Get("remainCount"), "remainCount");
    job->settings.key.seed = static_cast<std::uint64_t>(number_member(object, "seed", 0.0));
    FM_CHECK(object.Get("tensors").IsArray(), ARGUMENT, "expected a list for tensors");
    const auto tensors = object.Get("tensors").As<Napi::Array>();
    std::int64_t first = 0;
    for (std::uint32_t i = 0; i < tensors.Length(); ++i) {
      const Napi::Object item = object_value(tensors.Get(i), "a tensor");
      ScoreTensor tensor;
      tensor.name = string_value(item.Get("name"), "a tensor's name");
      tensor.shape = shape_value(item.Get("shape"));
      const std::int64_t count = element_count(tensor.shape);
      tensor.weight =
          checked(held_floats(item.Get("weight"), "weight", *held), count, tensor.name, "weight");
      tensor.forget_sums =
          checked(optional_floats(item, "forget", *held), count, tensor.name, "forget Fisher");
      tensor.remain_sums =
          checked(optional_floats(item, "remain", *held), count, tensor.name, "remain Fisher");
      tensor.forget_gradient_sums =
          checked(optional_floats(item, "gradient", *held), count, tensor.name, "forget gradient");
      tensor.first_unit = static_cast<std::uint64_t>(first);
      const std::int64_t units = unit_count(tensor.shape, job->settings.unit);
      job->scores.emplace_back(static_cast<std::size_t>(units));
      first += units;
      job->tensors.push_back(std::move(tensor));
    }
    return post_held<std::shared_ptr<ScoreJob>>(
        info.Env(), held,
        [job] {
          set_thread_count(job->threads);
          std::vector<std::span<float>> scores(job->scores.begin(), job->scores.end());
          compute_scores(job->program, job->settings, job->tensors, scores);
          return job;
        },
        [](Napi::Env env, std::shared_ptr<ScoreJob>& done) -> Napi::Value {
          Napi::Array out = Napi::Array::New(env, done->scores.size());
          for (std::uint32_t i = 0; i < done->scores.size(); ++i) {
            out.Set(i, float_array(env, done->scores[i]));
          }
          return out;
        });
  });
}

struct SelectJob {
  std::vector<SelectTensor> tensors;
  Scope scope = Scope::kGlobal;
  double ratio = 0.0;
  std::int64_t k = -1;
  int bins = 0;
  int threads = 1;
};

struct SelectResult {
  Selection selection;
  ScoreHistogram histogram;
};

Napi::Value selection_value(Napi::Env env, SelectResult& result) {
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
    const Ranking& ranking = selection.rankings[i];
    Napi::Object item = Napi::Object::New(env);
    item.Set("units", static_cast<double>(ranking.units));
    item.Set("eligible", static_cast<double>(ranking.eligible));
    item.Set("asked", static_cast<double>(ranking.asked));
    item.Set("masked", static_cast<double>(ranking.masked));
    item.Set("threshold", ranking.threshold ? Napi::Value(Napi::Number::New(
                                                  env, static_cast<double>(*ranking.threshold)))
                                            : Napi::Value(env.Null()));
    rankings.Set(i, item);
  }
  const auto numbers = [&](const auto& values) {
    std::vector<double> copy(values.begin(), values.end());
    return double_array(env, copy);
  };
  out.Set("masks", masks);
  out.Set("masked", masked);
  out.Set("rankings", rankings);
  out.Set("totalUnits", static_cast<double>(selection.total_units));
  out.Set("totalMasked", static_cast<double>(selection.total_masked));
  out.Set("edges", double_array(env, result.histogram.edges));
  out.Set("counts", numbers(result.histogram.counts));
  out.Set("maskedCounts", numbers(result.histogram.masked_counts));
  return out;
}

// selectTopK({scope, ratio | k, bins?, threads, tensors: [{name, scores, group}]})
Napi::Value select_units(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object object = object_value(info[0], "the selection");
    auto held = std::make_shared<Held>();
    auto job = std::make_shared<SelectJob>();
    job->threads = threads_member(object);
    job->scope = parse_scope(string_member(object, "scope", "global"));
    job->bins = static_cast<int>(number_member(object, "bins", 0.0));
    if (object.Get("k").IsUndefined()) {
      job->ratio = number_value(object.Get("ratio"), "ratio");
    } else {
      job->k = integer_value(object.Get("k"), "k");
      FM_CHECK(job->k >= 0, ARGUMENT, "expected k of at least 0 but received ", job->k);
      FM_CHECK(job->scope == Scope::kGlobal, ARGUMENT, "k needs the scope global; give a ratio");
    }
    FM_CHECK(object.Get("tensors").IsArray(), ARGUMENT, "expected a list for tensors");
    const auto tensors = object.Get("tensors").As<Napi::Array>();
    for (std::uint32_t i = 0; i < tensors.Length(); ++i) {
      const Napi::Object item = object_value(tensors.Get(i), "a tensor");
      SelectTensor tensor;
      tensor.name = string_value(item.Get("name"), "a tensor's name");
      tensor.scores = held_floats(item.Get("scores"), "scores", *held);
      tensor.group = integer_value(item.Get("group"), "group");
      job->tensors.push_back(std::move(tensor));
    }
    return post_held<SelectResult>(
        info.Env(), held,
        [job] {
          set_thread_count(job->threads);
          SelectResult result;
          result.selection = job->k >= 0 ? select_top_k(job->tensors, job->k)
                                         : select_ratio(job->tensors, job->scope, job->ratio);
          if (job->bins > 0) {
            std::vector<std::span<const float>> scores;
            for (const SelectTensor& tensor : job->tensors) scores.push_back(tensor.scores);
            result.histogram = score_histogram(scores, result.selection.masks, job->bins);
          }
          return result;
        },
        selection_value);
  });
}

KeepMask mask_value(const Napi::Value& bits, const Napi::Value& units) {
  return {integer_value(units, "units"), array_copy<std::uint8_t>(bits, "the keep-mask")};
}

// expandKeepMask(bits, units, elementsPerUnit) -> one bit per weight
Napi::Value expand_keep_mask(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const KeepMask mask = mask_value(info[0], info[1]);
    return byte_array(info.Env(),
                      expand_to_weights(mask, integer_value(info[2], "elementsPerUnit")).bits);
  });
}

// intersectKeepMasks(a, b, units) -> kept in both
Napi::Value intersect_keep_masks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return byte_array(info.Env(),
                      intersect(mask_value(info[0], info[2]), mask_value(info[1], info[2])).bits);
  });
}

// countMasked(bits, units)
Napi::Value count_masked(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(),
                             static_cast<double>(masked_count(mask_value(info[0], info[1]))));
  });
}

// applyKeepMask(weights, bits, units, elementsPerUnit) -> the old values of the masked weights;
// weights is changed.
Napi::Value apply_mask(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const TensorView weights = array_view(info[0], "the weights");
    const KeepMask mask = mask_value(info[1], info[2]);
    const std::int64_t elements = integer_value(info[3], "elementsPerUnit");
    std::vector<float> old(static_cast<std::size_t>(masked_count(mask) * elements));
    apply_keep_mask(mask, elements,
                    {weights.as<float>(), static_cast<std::size_t>(weights.count())}, old);
    return float_array(info.Env(), old);
  });
}

// undoKeepMask(weights, bits, units, elementsPerUnit, oldValues): weights is changed.
Napi::Value undo_mask(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const TensorView weights = array_view(info[0], "the weights");
    const KeepMask mask = mask_value(info[1], info[2]);
    const auto old = array_copy<float>(info[4], "the old values");
    undo_keep_mask(mask, integer_value(info[3], "elementsPerUnit"),
                   {weights.as<float>(), static_cast<std::size_t>(weights.count())}, old);
    return info.Env().Undefined();
  });
}

Napi::Value count_units(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Shape shape = shape_value(info[0]);
    const Unit unit = parse_unit(string_value(info[1], "unit"));
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("units", static_cast<double>(unit_count(shape, unit)));
    out.Set("elementsPerUnit", static_cast<double>(elements_per_unit(shape, unit)));
    return out;
  });
}

Napi::Value ratio_units(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(),
                             static_cast<double>(ratio_to_k(number_value(info[0], "ratio"),
                                                            integer_value(info[1], "units"))));
  });
}

}  // namespace

void define_mask_functions(Napi::Env env, Napi::Object exports) {
  const auto define = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  define("scoreUnits", score_units);
  define("selectUnits", select_units);
  define("expandKeepMask", expand_keep_mask);
  define("intersectKeepMasks", intersect_keep_masks);
  define("countMasked", count_masked);
  define("applyKeepMask", apply_mask);
  define("undoKeepMask", undo_mask);
  define("unitCount", count_units);
  define("ratioToK", ratio_units);
}

}  // namespace fishermask::napi
