// What the functions of scoring, selection and masking take from JavaScript and give back.
#pragma once

#include <memory>
#include <vector>

#include "mask/score.h"
#include "mask/select.h"
#include "mask/top_k.h"
#include "napi/arguments.h"

namespace fishermask::napi {

// JavaScript's arrays are read and written in place, since they may be as large as the model; the
// references keep them alive and are dropped on the JavaScript thread.
using HeldArrays = std::vector<Napi::ObjectReference>;

[[nodiscard]] Shape shape_value(const Napi::Value& value);
[[nodiscard]] Napi::Array list_member(const Napi::Object& object, const char* name);
// The fallback is the machine's own count.
[[nodiscard]] int threads_member(const Napi::Object& object);

// {ops, values}
[[nodiscard]] ScoreProgram program_value(const Napi::Object& object);
// {unit, forgetCount, remainCount, seed}
[[nodiscard]] ScoreSettings score_settings_value(const Napi::Object& object);
// {scope, ratio | k}. Errors: ARGUMENT, also for k with another scope than global.
[[nodiscard]] TopKAmount amount_value(const Napi::Object& object);

// A Float32Array in place: (length,).
[[nodiscard]] std::span<float> held_floats(const Napi::Value& value, const char* name,
                                           HeldArrays& held);
// {name, shape, weight, forget?, remain?, gradient?}, in place: what a tensor is scored by.
// Errors: DTYPE, SHAPE and ARGUMENT, naming the tensor.
struct ScoredArrays {
  std::string name;
  Shape shape;
  float* weight = nullptr;
  const float* forget_sums = nullptr;
  const float* remain_sums = nullptr;
  const float* forget_gradient_sums = nullptr;
};
[[nodiscard]] ScoredArrays scored_arrays_value(const Napi::Object& item, HeldArrays& held);

[[nodiscard]] Napi::Object ranking_value(Napi::Env env, const Ranking& ranking);
// {masks, masked, rankings, totalUnits, totalMasked}
[[nodiscard]] Napi::Object selection_value(Napi::Env env, const Selection& selection);

}  // namespace fishermask::napi
