#include "napi/mask_values.h"

#include <algorithm>
#include <thread>

namespace fishermask::napi {
namespace {

float* optional_floats(const Napi::Object& item, const char* key, std::int64_t count,
                       const std::string& tensor, HeldArrays& held) {
  const Napi::Value value = item.Get(key);
  if (value.IsUndefined() || value.IsNull()) return nullptr;
  const std::span<float> floats = held_floats(value, key, held);
  FM_CHECK(static_cast<std::int64_t>(floats.size()) == count, SHAPE, "expected ", count,
           " values for the ", key, " of tensor '", tensor, "' but received ", floats.size());
  return floats.data();
}

}  // namespace

Shape shape_value(const Napi::Value& value) {
  FM_CHECK(value.IsArray(), ARGUMENT, "expected a list of sizes for shape");
  const auto list = value.As<Napi::Array>();
  Shape shape;
  for (std::uint32_t i = 0; i < list.Length(); ++i) {
    shape.push_back(integer_value(list.Get(i), "a size of shape"));
  }
  return shape;
}

Napi::Array list_member(const Napi::Object& object, const char* name) {
  FM_CHECK(object.Get(name).IsArray(), ARGUMENT, "expected a list for ", name);
  return object.Get(name).As<Napi::Array>();
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

ScoreSettings score_settings_value(const Napi::Object& object) {
  ScoreSettings settings;
  settings.unit = parse_unit(string_member(object, "unit", "weight"));
  settings.forget_count = integer_value(object.Get("forgetCount"), "forgetCount");
  settings.remain_count = integer_value(object.Get("remainCount"), "remainCount");
  settings.key.seed = static_cast<std::uint64_t>(number_member(object, "seed", 0.0));
  return settings;
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

std::span<float> held_floats(const Napi::Value& value, const char* name, HeldArrays& held) {
  const TensorView view = array_view(value, name);
  FM_CHECK(view.dtype == DType::kF32, DTYPE, "expected a Float32Array for ", name);
  held.push_back(Napi::Persistent(value.As<Napi::Object>()));
  return {view.as<float>(), static_cast<std::size_t>(view.count())};
}

ScoredArrays scored_arrays_value(const Napi::Object& item, HeldArrays& held) {
  ScoredArrays arrays;
  arrays.name = string_value(item.Get("name"), "a tensor's name");
  arrays.shape = shape_value(item.Get("shape"));
  const std::int64_t count = element_count(arrays.shape);
  const auto floats = [&](const char* key) {
    return optional_floats(item, key, count, arrays.name, held);
  };
  arrays.weight = floats("weight");
  arrays.forget_sums = floats("forget");
  arrays.remain_sums = floats("remain");
  arrays.forget_gradient_sums = floats("gradient");
  FM_CHECK(arrays.weight != nullptr, ARGUMENT, "expected a Float32Array for the weight of tensor '",
           arrays.name, "'");
  return arrays;
}

Napi::Object ranking_value(Napi::Env env, const Ranking& ranking) {
  Napi::Object item = Napi::Object::New(env);
  item.Set("units", static_cast<double>(ranking.units));
  item.Set("eligible", static_cast<double>(ranking.eligible));
  item.Set("asked", static_cast<double>(ranking.asked));
  item.Set("masked", static_cast<double>(ranking.masked));
  item.Set("threshold", ranking.threshold ? Napi::Value(Napi::Number::New(
                                                env, static_cast<double>(*ranking.threshold)))
                                          : Napi::Value(env.Null()));
  return item;
}

Napi::Object selection_value(Napi::Env env, const Selection& selection) {
  Napi::Object out = Napi::Object::New(env);
  Napi::Array masks = Napi::Array::New(env, selection.masks.size());
  Napi::Array masked = Napi::Array::New(env, selection.masked.size());
  for (std::uint32_t i = 0; i < selection.masks.size(); ++i) {
    masks.Set(i, byte_array(env, selection.masks[i].bits));
    masked.Set(i, static_cast<double>(selection.masked[i]));
  }
  Napi::Array rankings = Napi::Array::New(env, selection.rankings.size());
  for (std::uint32_t i = 0; i < selection.rankings.size(); ++i) {
    rankings.Set(i, ranking_value(env, selection.rankings[i]));
  }
  out.Set("masks", masks);
  out.Set("masked", masked);
  out.Set("rankings", rankings);
  out.Set("totalUnits", static_cast<double>(selection.total_units));
  out.Set("totalMasked", static_cast<double>(selection.total_masked));
  return out;
}

}  // namespace fishermask::napi
