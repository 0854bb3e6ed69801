#include "napi/mask_binding.h"

#include "core/parallel.h"
#include "mask/score.h"
#include "mask/score_histogram.h"
#include "mask/select.h"
#include "napi/mask_values.h"

namespace fishermask::napi {
namespace {

struct ScoreJob {
  ScoreProgram program;
  ScoreSettings settings;
  std::vector<ScoreTensor> tensors;
  std::vector<std::vector<float>> scores;
  int threads = 1;
};

// Keeps `held` on the JavaScript side of a job.
template <typename Result>
Napi::Promise post_held(Napi::Env env, std::shared_ptr<HeldArrays> held,
                        std::function<Result()> work,
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
    auto held = std::make_shared<HeldArrays>();
    auto job = std::make_shared<ScoreJob>(ScoreJob{program_value(object), {}, {}, {}, 1});
    job->threads = threads_member(object);
    job->settings = score_settings_value(object);
    const Napi::Array tensors = list_member(object, "tensors");
    std::int64_t first = 0;
    for (std::uint32_t i = 0; i < tensors.Length(); ++i) {
      ScoredArrays arrays = scored_arrays_value(object_value(tensors.Get(i), "a tensor"), *held);
      ScoreTensor tensor;
      tensor.name = std::move(arrays.name);
      tensor.shape = std::move(arrays.shape);
      tensor.weight = arrays.weight;
      tensor.forget_sums = arrays.forget_sums;
      tensor.remain_sums = arrays.remain_sums;
      tensor.forget_gradient_sums = arrays.forget_gradient_sums;
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
  TopKAmount amount;
  int bins = 0;
  int threads = 1;
};

struct SelectResult {
  Selection selection;
  ScoreHistogram histogram;
};

Napi::Value result_value(Napi::Env env, SelectResult& result) {
  Napi::Object out = selection_value(env, result.selection);
  const auto numbers = [&](const auto& values) {
    std::vector<double> copy(values.begin(), values.end());
    return double_array(env, copy);
  };
  out.Set("edges", double_array(env, result.histogram.edges));
  out.Set("counts", numbers(result.histogram.counts));
  out.Set("maskedCounts", numbers(result.histogram.masked_counts));
  return out;
}

// selectTopK({scope, ratio | k, bins?, threads, tensors: [{name, scores, group}]})
Napi::Value select_units(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object object = object_value(info[0], "the selection");
    auto held = std::make_shared<HeldArrays>();
    auto job = std::make_shared<SelectJob>();
    job->threads = threads_member(object);
    job->amount = amount_value(object);
    job->bins = static_cast<int>(number_member(object, "bins", 0.0));
    const Napi::Array tensors = list_member(object, "tensors");
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
          const TopKAmount& amount = job->amount;
          result.selection = amount.k ? select_top_k(job->tensors, *amount.k)
                                      : select_ratio(job->tensors, amount.scope, amount.ratio);
          if (job->bins > 0) {
            std::vector<std::span<const float>> scores;
            for (const SelectTensor& tensor : job->tensors) scores.push_back(tensor.scores);
            result.histogram = score_histogram(scores, result.selection.masks, job->bins);
          }
          return result;
        },
        result_value);
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
