#include "napi/network_binding.h"

#include "core/parallel.h"
#include "core/placement.h"
#include "napi/arguments.h"
#include "napi/device_binding.h"

namespace fishermask::napi {
namespace {

Napi::Object named_arrays(Napi::Env env, const std::map<std::string, std::vector<float>>& arrays) {
  Napi::Object out = Napi::Object::New(env);
  for (const auto& [name, values] : arrays) out.Set(name, float_array(env, values));
  return out;
}

Napi::Value loss_value(Napi::Env env, const LossResult& loss) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("losses", double_array(env, loss.per_sample));
  out.Set("predictions", int_array(env, loss.predictions));
  out.Set("counted", static_cast<double>(loss.counted));
  out.Set("correct", static_cast<double>(loss.correct));
  return out;
}

std::vector<float> to_f32(const TensorView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.count()));
  const auto convert = [&](const auto* from) {
    std::transform(from, from + view.count(), out.begin(),
                   [](auto v) { return static_cast<float>(v); });
  };
  if (view.dtype == DType::kF64) {
    convert(view.as<double>());
  } else {
    convert(view.as<float>());
  }
  return out;
}

std::vector<double> widen(const TensorView& view) {
  const auto copy = [&](const auto* from) {
    return std::vector<double>(from, from + view.count());
  };
  if (view.dtype == DType::kF64) return copy(view.as<double>());
  if (view.dtype == DType::kI32) return copy(view.as<std::int32_t>());
  return copy(view.as<float>());
}

// The place of a graph input in the order of the graph's inputs.
int input_index(const Graph& graph, const std::string& name) {
  const auto& inputs = graph.inputs();
  const auto found = std::find(inputs.begin(), inputs.end(), graph.value_index(name));
  FM_CHECK(found != inputs.end(), ARGUMENT, "expected the name of a graph input but received '",
           name, "'");
  return static_cast<int>(found - inputs.begin());
}

// A copy of a JavaScript array as `count` samples of the graph's input.
Tensor batch_copy(const Graph& graph, const std::string& name, const Napi::Value& value,
                  std::int64_t count) {
  FM_CHECK(count >= 1, ARGUMENT, "expected a count of at least 1 but received ", count);
  const TensorView view = array_view(value, name.c_str());
  const auto index = static_cast<std::size_t>(graph.value_index(name));
  const Shape shape = with_batch(count, graph.values()[index].spec.shape);
  FM_CHECK(view.count() == element_count(shape), SHAPE, "expected ", element_count(shape),
           " values for input '", name, "' but received ", view.count());
  Tensor copy(view.dtype, shape, "input '" + name + "'");
  std::copy(view.data, view.data + view.bytes(), copy.view().data);
  return copy;
}

// The view itself, or a copy of what a device holds, good for the expression it stands in.
TensorView on_host(const Network& network, const TensorView& view) {
  thread_local Tensor copy;
  if (network.device() == nullptr) return view;
  copy = host_copy(network.device(), view);
  return copy.view();
}

std::map<std::string, std::vector<double>> run_graph(Network& network,
                                                     const std::map<int, Tensor>& inputs,
                                                     std::int64_t count,
                                                     const std::vector<std::string>& names) {
  ExecutorOptions options;
  options.batch = count;
  options.keep = names;
  Executor& executor = network.executor(options);
  for (std::size_t i = 0; i < network.graph().inputs().size(); ++i) {
    const auto found = inputs.find(static_cast<int>(i));
    const auto value = static_cast<std::size_t>(network.graph().inputs()[i]);
    FM_CHECK(found != inputs.end(), ARGUMENT, "expected values for input '",
             network.graph().values()[value].name, "' but received none");
    write_batch({found->second.view(), {}}, executor.input(static_cast<int>(i)), network.device());
  }
  executor.forward();
  std::map<std::string, std::vector<double>> out;
  for (const std::string& name : names) out[name] = widen(on_host(network, executor.value(name)));
  return out;
}

const Shape& input_shape(const Network& network) {
  const Graph& graph = network.graph();
  return graph.values()[static_cast<std::size_t>(graph.inputs().front())].spec.shape;
}

// Every job of a network begins like this: the engine thread's team takes the network's number of
// threads.
template <typename Result, typename Work>
std::function<Result()> on_network(std::shared_ptr<NetworkState> state, Work work) {
  return [state = std::move(state), work = std::move(work)]() mutable -> Result {
    set_thread_count(state->threads);
    return work(*state->network);
  };
}

struct Nothing {};

FisherLabels parse_labels(const std::string& name) {
  if (name == "empirical") return FisherLabels::kEmpirical;
  if (name == "expected") return FisherLabels::kExpected;
  if (name == "sampled") return FisherLabels::kSampled;
  fail(ErrorCode::kARGUMENT, "expected labels of empirical, expected or sampled but received '",
       name, "'");
}

FisherGradient parse_gradient(const std::string& name) {
  if (name == "per-sample") return FisherGradient::kPerSample;
  if (name == "batch-mean") return FisherGradient::kBatchMean;
  fail(ErrorCode::kARGUMENT, "expected a gradient of per-sample or batch-mean but received '", name,
       "'");
}

OptimizerOptions optimizer_options(const Napi::Object& object) {
  OptimizerOptions options;
  const std::string kind = string_member(object, "kind", "sgd");
  FM_CHECK(kind == "sgd" || kind == "adamw", ARGUMENT,
           "expected an optimizer kind of sgd or adamw but received '", kind, "'");
  options.kind = kind == "sgd" ? OptimizerOptions::Kind::kSgd : OptimizerOptions::Kind::kAdamW;
  options.momentum = number_member(object, "momentum", options.momentum);
  options.dampening = number_member(object, "dampening", options.dampening);
  options.nesterov = boolean_member(object, "nesterov", options.nesterov);
  options.weight_decay = number_member(object, "weightDecay", options.weight_decay);
  options.beta1 = number_member(object, "beta1", options.beta1);
  options.beta2 = number_member(object, "beta2", options.beta2);
  options.epsilon = number_member(object, "epsilon", options.epsilon);
  return options;
}

std::uint64_t seed_value(const Napi::Object& object) {
  const double seed = number_member(object, "seed", 0.0);
  FM_CHECK(seed >= 0.0 && seed <= 9007199254740991.0, ARGUMENT,
           "expected a seed of 0 to 2^53 - 1 but received ", seed);
  return static_cast<std::uint64_t>(seed);
}

}  // namespace

// --- Network -------------------------------------------------------------------------------------

Napi::Function NetworkBinding::define(Napi::Env env) {
  return DefineClass(
      env, "Network",
      {InstanceMethod<&NetworkBinding::set_parameters>("setParameters"),
       InstanceMethod<&NetworkBinding::get_parameters>("getParameters"),
       InstanceMethod<&NetworkBinding::evaluate>("evaluate"),
       InstanceMethod<&NetworkBinding::run>("run"), InstanceMethod<&NetworkBinding::vjp>("vjp"),
       InstanceMethod<&NetworkBinding::dispose>("dispose")});
}

// new Network(graphJson, {threads, real: 'f32' | 'f64', reference: boolean, device?})
NetworkBinding::NetworkBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<NetworkBinding>(info) {
  guarded(info.Env(), [&] {
    const Napi::Object options = object_value(info[1], "the network's options");
    NetworkOptions network;
    network.real = parse_dtype(string_member(options, "real", "f32"));
    network.reference = boolean_member(options, "reference", false);
    network.device = device_value(options.Get("device"));
    state_ = std::make_shared<NetworkState>();
    state_->threads = static_cast<int>(integer_value(options.Get("threads"), "threads"));
    FM_CHECK(state_->threads >= 1 && state_->threads <= 4096, ARGUMENT,
             "expected 1 to 4096 threads but received ", state_->threads);
    state_->network = std::make_unique<Network>(string_value(info[0], "the graph"), network);
  });
}

NetworkBinding& NetworkBinding::from(const Napi::Value& value) {
  const Napi::Object object = object_value(value, "the network");
  FM_CHECK(object.InstanceOf(instance_of(value.Env()).network.Value()), ARGUMENT,
           "expected a Network handle");
  return *Unwrap(object);
}

const std::shared_ptr<NetworkState>& NetworkBinding::state() const {
  FM_CHECK(state_ != nullptr, DISPOSED, "the network was disposed");
  return state_;
}

Napi::Value NetworkBinding::set_parameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto values = std::make_shared<std::map<std::string, Tensor>>();
    for (const auto& [name, value] : entries(info[0], "the parameters")) {
      const TensorView view = array_view(value, name.c_str());
      FM_CHECK(view.dtype == DType::kF32 || view.dtype == DType::kF64, DTYPE,
               "expected f32 or f64 values for tensor '", name, "'");
      Tensor copy(view.dtype, view.shape, "tensor '" + name + "'");
      std::copy(view.data, view.data + view.bytes(), copy.view().data);
      values->emplace(name, std::move(copy));
    }
    return post_job<Nothing>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<Nothing>(state(),
                            [values](Network& network) {
                              for (const auto& [name, tensor] : *values)
                                network.set_parameter(name, tensor.view());
                              return Nothing();
                            }),
        [](Napi::Env env, Nothing&) -> Napi::Value { return env.Undefined(); });
  });
}

Napi::Value NetworkBinding::get_parameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    using Result = std::map<std::string, std::vector<float>>;
    return post_job<Result>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<Result>(state(),
                           [names = string_list(info[0], "the names")](Network& network) {
                             Result out;
                             for (const std::string& name : names) {
                               out[name] =
                                   network.parameter_f32(network.graph().parameter_index(name));
                             }
                             return out;
                           }),
        [](Napi::Env env, Result& out) -> Napi::Value { return named_arrays(env, out); });
  });
}

// evaluate(batch, labels, {temperature?, keep?: string[]}) -> {losses, predictions, counted,
// correct, values}
Napi::Value NetworkBinding::evaluate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    struct Result {
      LossResult loss;
      std::map<std::string, std::vector<float>> values;
    };
    const Napi::Object options = object_value(info[2], "the options");
    const double temperature = number_member(options, "temperature", 1.0);
    return post_job<Result>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<Result>(state(),
                           [batch = batch_value(info[0], input_shape(*state()->network)),
                            labels = array_copy<std::int32_t>(info[1], "the labels"), temperature,
                            keep = string_list(options.Get("keep"), "keep")](Network& network) {
                             Evaluation evaluation =
                                 evaluate_batch(network, batch.data, labels, temperature, keep);
                             Result result;
                             result.loss = std::move(evaluation.loss);
                             for (const std::string& name : keep) {
                               result.values[name] =
                                   to_f32(on_host(network, evaluation.executor->value(name)));
                             }
                             return result;
                           }),
        [](Napi::Env env, Result& result) -> Napi::Value {
          Napi::Object out = loss_value(env, result.loss).As<Napi::Object>();
          out.Set("values", named_arrays(env, result.values));
          return out;
        });
  });
}

// run({name: values of one graph input}, count, names of values) -> {name: f64}: forward alone
Napi::Value NetworkBinding::run(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    using Inputs = std::map<int, Tensor>;
    using Result = std::map<std::string, std::vector<double>>;
    auto inputs = std::make_shared<Inputs>();
    const std::int64_t count = integer_value(info[1], "the count");
    const Graph& graph = state()->network->graph();
    for (const auto& [name, value] : entries(info[0], "the inputs")) {
      const int index = input_index(graph, name);
      inputs->emplace(index, batch_copy(graph, name, value, count));
    }
    return post_job<Result>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<Result>(
            state(), [inputs, count, names = string_list(info[2], "the values")](
                         Network& network) { return run_graph(network, *inputs, count, names); }),
        [](Napi::Env env, Result& result) -> Napi::Value {
          Napi::Object out = Napi::Object::New(env);
          for (const auto& [name, values] : result) out.Set(name, double_array(env, values));
          return out;
        });
  });
}

// vjp(batch, gradOutput, {training?, seed?}) -> {output, gradInput, gradients: {name: values}}, all
// in f64: the vector-Jacobian product
Napi::Value NetworkBinding::vjp(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    struct Result {
      std::vector<double> output;
      std::vector<double> grad_input;
      std::map<std::string, std::vector<double>> gradients;
    };
    const Napi::Object options = object_value(info[2], "the options");
    const bool training = boolean_member(options, "training", false);
    const std::uint64_t seed = seed_value(options);
    return post_job<Result>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<Result>(
            state(),
            [batch = batch_value(info[0], input_shape(*state()->network)),
             grad_output = array_copy<double>(info[1], "gradOutput"), training,
             seed](Network& network) {
              Result result;
              ExecutorOptions wanted;
              wanted.batch = batch.data.view.shape[0];
              wanted.training = training;
              wanted.input_gradients = true;
              wanted.backward = true;
              Executor& executor = network.executor(wanted);
              write_batch(batch.data, executor.input(), network.device());
              executor.forward({seed, 0});
              result.output = widen(on_host(network, executor.output()));
              const TensorView& target = executor.output_gradient();
              FM_CHECK(static_cast<std::int64_t>(grad_output.size()) == target.count(), SHAPE,
                       "expected ", target.count(), " values for gradOutput but received ",
                       grad_output.size());
              const Tensor seed_values(target.dtype, target.shape, "gradOutput");
              if (target.dtype == DType::kF64) {
                std::copy(grad_output.begin(), grad_output.end(), seed_values.as<double>());
              } else {
                std::transform(grad_output.begin(), grad_output.end(), seed_values.as<float>(),
                               [](double v) { return static_cast<float>(v); });
              }
              write_tensor(network.device(), target, seed_values.view().data);
              BackwardRequest request;
              std::vector<Tensor> gradients;
              for (const Parameter& parameter : network.graph().parameters()) {
                gradients.push_back(parameter.trainable()
                                        ? make_tensor(network.device(), network.real(),
                                                      parameter.shape, "gradients")
                                        : Tensor());
                request.grad_parameters.push_back(gradients.back().view());
              }
              executor.backward(request);
              // Ids have no gradient: theirs stays empty.
              if (const TensorView& view = executor.input_gradient()) {
                result.grad_input = widen(on_host(network, view));
              }
              for (std::size_t p = 0; p < gradients.size(); ++p) {
                if (!gradients[p].view()) continue;
                result.gradients[network.graph().parameters()[p].name] =
                    widen(on_host(network, gradients[p].view()));
              }
              return result;
            }),
        [](Napi::Env env, Result& result) -> Napi::Value {
          Napi::Object out = Napi::Object::New(env);
          out.Set("output", double_array(env, result.output));
          out.Set("gradInput", double_array(env, result.grad_input));
          Napi::Object gradients = Napi::Object::New(env);
          for (const auto& [name, values] : result.gradients) {
            gradients.Set(name, double_array(env, values));
          }
          out.Set("gradients", gradients);
          return out;
        });
  });
}

Napi::Value NetworkBinding::dispose(const Napi::CallbackInfo& info) {
  state_.reset();
  return info.Env().Undefined();
}

// --- Trainer -------------------------------------------------------------------------------------

Napi::Function TrainerBinding::define(Napi::Env env) {
  return DefineClass(env, "Trainer",
                     {InstanceMethod<&TrainerBinding::hold>("hold"),
                      InstanceMethod<&TrainerBinding::step>("step")});
}

// new Trainer(network, {kind, momentum, …, seed})
TrainerBinding::TrainerBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<TrainerBinding>(info) {
  guarded(info.Env(), [&] {
    const Napi::Object options = object_value(info[1], "the optimizer's options");
    state_ = NetworkBinding::from(info[0]).state();
    trainer_ = std::make_shared<Trainer>(*state_->network, optimizer_options(options),
                                         seed_value(options));
  });
}

// hold({name: keep bits, one per weight})
Napi::Value TrainerBinding::hold(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto masks = std::make_shared<std::map<std::string, std::vector<std::uint8_t>>>();
    for (const auto& [name, value] : entries(info[0], "the keep-masks")) {
      (*masks)[name] = array_copy<std::uint8_t>(value, name.c_str());
    }
    return post_job<Nothing>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<Nothing>(state_,
                            [masks, trainer = trainer_](Network&) {
                              for (const auto& [name, bits] : *masks) trainer->hold(name, bits);
                              return Nothing();
                            }),
        [](Napi::Env env, Nothing&) -> Napi::Value { return env.Undefined(); });
  });
}

// step(batch, labels, {learningRate, sign?}) -> {losses, predictions, counted, correct}
Napi::Value TrainerBinding::step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object options = object_value(info[2], "the options");
    const double rate = number_value(options.Get("learningRate"), "learningRate");
    const double sign = number_member(options, "sign", 1.0);
    return post_job<LossResult>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<LossResult>(state_,
                               [batch = batch_value(info[0], input_shape(*state_->network)),
                                labels = array_copy<std::int32_t>(info[1], "the labels"), rate,
                                sign, trainer = trainer_](Network&) {
                                 return trainer->step(batch.data, labels, rate, sign);
                               }),
        [](Napi::Env env, LossResult& loss) { return loss_value(env, loss); });
  });
}

// --- FisherPass ----------------------------------------------------------------------------------

Napi::Function FisherPassBinding::define(Napi::Env env) {
  return DefineClass(env, "FisherPass",
                     {InstanceMethod<&FisherPassBinding::step>("step"),
                      InstanceMethod<&FisherPassBinding::finish>("finish")});
}

// new FisherPass(network, {labels, gradient, temperature, seed, gradientSums, generic, training})
FisherPassBinding::FisherPassBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<FisherPassBinding>(info) {
  guarded(info.Env(), [&] {
    const Napi::Object object = object_value(info[1], "the Fisher's options");
    FisherOptions options;
    options.labels = parse_labels(string_member(object, "labels", "empirical"));
    options.gradient = parse_gradient(string_member(object, "gradient", "per-sample"));
    options.temperature = number_member(object, "temperature", 1.0);
    options.seed = seed_value(object);
    options.gradient_sums = boolean_member(object, "gradientSums", false);
    options.per_token = boolean_member(object, "perToken", false);
    options.generic = boolean_member(object, "generic", false);
    options.training = boolean_member(object, "training", false);
    state_ = NetworkBinding::from(info[0]).state();
    pass_ = std::make_shared<FisherPass>(*state_->network, options);
  });
}

// step(batch, labels, firstSample)
Napi::Value FisherPassBinding::step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto first = static_cast<std::uint64_t>(integer_value(info[2], "firstSample"));
    return post_job<Nothing>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<Nothing>(state_,
                            [batch = batch_value(info[0], input_shape(*state_->network)),
                             labels = array_copy<std::int32_t>(info[1], "the labels"), first,
                             pass = pass_](Network&) {
                              pass->step(batch.data, labels, first);
                              return Nothing();
                            }),
        [](Napi::Env env, Nothing&) -> Napi::Value { return env.Undefined(); });
  });
}

// finish() -> {samples, terms, lossSum, correct, squares: {name: f64}, gradients: {name: f64} |
// null}
Napi::Value FisherPassBinding::finish(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    struct Result {
      std::map<std::string, std::vector<double>> squares;
      std::map<std::string, std::vector<double>> gradients;
      bool has_gradients = false;
      double samples = 0, terms = 0, loss_sum = 0, correct = 0;
    };
    return post_job<Result>(
        info.Env(), *instance_of(info.Env()).engine,
        on_network<Result>(state_,
                           [pass = pass_](Network& network) {
                             Result result;
                             const auto& squares = pass->square_sums();
                             const auto& gradients = pass->gradient_sums();
                             result.has_gradients = !gradients.empty();
                             const auto& parameters = network.graph().parameters();
                             for (std::size_t p = 0; p < parameters.size(); ++p) {
                               if (!parameters[p].trainable()) continue;
                               result.squares[parameters[p].name] = squares[p];
                               if (result.has_gradients) {
                                 result.gradients[parameters[p].name] = gradients[p];
                               }
                             }
                             result.samples = static_cast<double>(pass->samples());
                             result.terms = static_cast<double>(pass->terms());
                             result.loss_sum = pass->loss_sum();
                             result.correct = static_cast<double>(pass->correct());
                             return result;
                           }),
        [](Napi::Env env, Result& result) -> Napi::Value {
          const auto arrays = [&](const std::map<std::string, std::vector<double>>& sums) {
            Napi::Object object = Napi::Object::New(env);
            for (const auto& [name, values] : sums) object.Set(name, double_array(env, values));
            return object;
          };
          Napi::Object out = Napi::Object::New(env);
          out.Set("samples", result.samples);
          out.Set("terms", result.terms);
          out.Set("lossSum", result.loss_sum);
          out.Set("correct", result.correct);
          out.Set("squares", arrays(result.squares));
          out.Set("gradients", result.has_gradients ? Napi::Value(arrays(result.gradients))
                                                    : Napi::Value(env.Null()));
          return out;
        });
  });
}

}  // namespace fishermask::napi
