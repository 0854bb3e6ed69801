#include "graph/executor.h"

#include <algorithm>
#include <utility>

#include "core/parallel.h"
#include "core/placement.h"

namespace fishermask {
namespace {

// Steps: forward of node f is f; the seed is F; backward of node f is F + (F − f).
int node_count(const Graph& graph) { return static_cast<int>(graph.nodes().size()); }

DType real_type(const ValueSpec& spec, DType real) {
  return spec.dtype == DType::kF32 ? real : spec.dtype;
}

void add_squares(const TensorView& gradient, double* sums) {
  const std::int64_t count = gradient.count();
  const auto add = [&](const auto* g) {
    parallel_for(count, 1 << 14, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        sums[i] += static_cast<double>(g[i]) * static_cast<double>(g[i]);
      }
    });
  };
  if (gradient.dtype == DType::kF64) {
    add(gradient.as<double>());
  } else {
    add(gradient.as<float>());
  }
}

}  // namespace

Executor::Executor(const Graph& graph, const ParameterValues& parameters, ExecutorOptions options)
    : graph_(graph), parameters_(parameters), options_(std::move(options)) {
  FM_CHECK(options_.batch > 0, ARGUMENT, "expected a batch of at least 1 but received ",
           options_.batch);
  FM_CHECK(!(options_.squares && options_.training), STATE,
           "per-sample gradients do not exist in training mode (batch norm mixes the samples): "
           "the Fisher needs evaluation mode");
  FM_CHECK(options_.device == nullptr || (options_.real == DType::kF32 && !options_.reference),
           UNSUPPORTED, "the reference kernels and f64 run on the CPU alone");
  options_.backward = options_.backward || options_.squares || options_.input_gradients;
  states_.resize(graph.nodes().size());
  plan();
  arena_bytes_ = plan_memory(buffers_);
  const std::string purpose = text("the activations of a batch of ", options_.batch);
  arena_ = options_.device == nullptr ? allocate_aligned(arena_bytes_, purpose)
                                      : options_.device->allocate(arena_bytes_, purpose);
  make_kernels();
  bind();
  if (!options_.reference && options_.real == DType::kF32) fuse_epilogues();
}

bool Executor::wants_gradient(int value) const {
  if (!options_.backward) return false;
  const Value& v = graph_.values()[static_cast<std::size_t>(value)];
  return v.needs_grad || (options_.input_gradients && v.spec.dtype == DType::kF32);
}

int Executor::backward_time(std::size_t node) const {
  return 2 * node_count(graph_) - static_cast<int>(node);
}

void Executor::plan() {
  const int forward_steps = node_count(graph_);
  const int end = 2 * forward_steps + 1;
  const auto& values = graph_.values();
  const auto& nodes = graph_.nodes();
  readable_.assign(values.size(), false);
  for (const int v : graph_.inputs()) readable_[static_cast<std::size_t>(v)] = true;
  for (const int v : graph_.outputs()) readable_[static_cast<std::size_t>(v)] = true;
  for (const std::string& name : options_.keep) {
    readable_[static_cast<std::size_t>(graph_.value_index(name))] = true;
  }
  // A node takes part in the reverse pass when one of its outputs gets a gradient.
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    states_[n].has_backward = std::any_of(nodes[n].outputs.begin(), nodes[n].outputs.end(),
                                          [&](int v) { return wants_gradient(v); });
  }
  // A shared parameter's uses are squared together after the whole reverse pass: their tensors
  // stay.
  std::vector<bool> kept_to_end(nodes.size(), false);
  if (options_.squares) {
    for (const Parameter& parameter : graph_.parameters()) {
      if (!is_shared(parameter)) continue;
      for (const ParameterUse& use : parameter.uses) {
        kept_to_end[static_cast<std::size_t>(use.node)] = true;
      }
    }
  }
  const auto last_backward_use = [&](std::size_t node) {
    return kept_to_end[node] || options_.repeatable ? end : backward_time(node);
  };

  const auto byte_size = [&](std::size_t v) {
    return byte_count(with_batch(options_.batch, values[v].spec.shape),
                      real_type(values[v].spec, options_.real));
  };
  value_buffer_.assign(values.size(), -1);
  for (std::size_t v = 0; v < values.size(); ++v) {
    PlannedBuffer buffer;
    buffer.bytes = byte_size(v);
    buffer.first = std::max(values[v].producer, 0);
    buffer.last = buffer.first;
    for (const int consumer : values[v].consumers) {
      const auto c = static_cast<std::size_t>(consumer);
      buffer.last = std::max(buffer.last, consumer);
      if (states_[c].has_backward && nodes[c].op->backward_needs_inputs) {
        buffer.last = std::max(buffer.last, last_backward_use(c));
      }
    }
    if (values[v].producer >= 0) {
      const auto p = static_cast<std::size_t>(values[v].producer);
      if (states_[p].has_backward && nodes[p].op->backward_needs_outputs) {
        buffer.last = std::max(buffer.last, last_backward_use(p));
      }
    }
    if (readable_[v]) {
      buffer.last = end;
      buffer.first = values[v].producer < 0 ? 0 : buffer.first;
    }
    value_buffer_[v] = static_cast<int>(buffers_.size());
    // In place: the output takes over the buffer of an input that ends here.
    if (values[v].producer >= 0) {
      const auto p = static_cast<std::size_t>(values[v].producer);
      const int source = nodes[p].inputs.empty() ? -1 : nodes[p].inputs[0];
      if (nodes[p].op->in_place && nodes[p].outputs.size() == 1 && source >= 0 &&
          !readable_[static_cast<std::size_t>(source)] &&
          byte_size(static_cast<std::size_t>(source)) == buffer.bytes) {
        const int shared = value_buffer_[static_cast<std::size_t>(source)];
        PlannedBuffer& root = buffers_[static_cast<std::size_t>(shared)];
        if (root.last == static_cast<int>(p)) {
          root.last = buffer.last;
          value_buffer_[v] = shared;
          continue;
        }
      }
    }
    buffers_.push_back(buffer);
  }

  saved_buffer_.assign(nodes.size(), -1);
  saved_fixed_buffer_.assign(nodes.size(), -1);
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    if (nodes[n].op->saved == nullptr) continue;
    states_[n].saved = nodes[n].op->saved(nodes[n].spec, options_.batch, options_.training);
    const int first = static_cast<int>(n);
    const int last = states_[n].has_backward ? last_backward_use(n) : first;
    if (states_[n].saved.bytes_per_sample > 0) {
      saved_buffer_[n] = static_cast<int>(buffers_.size());
      buffers_.push_back(
          {byte_count({options_.batch, states_[n].saved.bytes_per_sample}, DType::kU8), first,
           last});
    }
    if (states_[n].saved.bytes_fixed > 0) {
      saved_fixed_buffer_[n] = static_cast<int>(buffers_.size());
      buffers_.push_back({states_[n].saved.bytes_fixed, first, last});
    }
  }

  gradient_buffer_.assign(values.size(), -1);
  for (std::size_t v = 0; v < values.size(); ++v) {
    if (!wants_gradient(static_cast<int>(v))) continue;
    const bool is_output = static_cast<int>(v) == graph_.outputs().front();
    PlannedBuffer buffer;
    buffer.bytes = byte_size(v);
    // The logits' gradient is written by the caller at any time before backward; the gradient of a
    // value that leads to no output is cleared once and stays zero.
    const bool lasting = is_output || values[v].consumers.empty();
    buffer.first = lasting ? 0 : end;
    for (const int consumer : values[v].consumers) {
      buffer.first = std::min(buffer.first, backward_time(static_cast<std::size_t>(consumer)));
    }
    buffer.last = end;
    if (values[v].producer >= 0) {
      const auto p = static_cast<std::size_t>(values[v].producer);
      buffer.last = kept_to_end[p] || lasting ? end : backward_time(p);
    }
    gradient_buffer_[v] = static_cast<int>(buffers_.size());
    buffers_.push_back(buffer);
  }
}

std::unique_ptr<Kernel> Executor::make_kernel(std::size_t node, std::int64_t batch) const {
  const NodeSpec& spec = graph_.nodes()[node].spec;
  const OpDefinition& op = *graph_.nodes()[node].op;
  std::unique_ptr<Kernel> kernel;
  if (options_.device != nullptr) {
    kernel = options_.device->make_kernel(spec, batch);
    FM_CHECK(kernel != nullptr, UNSUPPORTED, "node '", spec.name, "' (", spec.op, "): the ",
             options_.device->info().kind,
             " backend has no kernel for this op with these attributes; use the CPU");
    return kernel;
  }
  const bool fast = !options_.reference && options_.real == DType::kF32;
  if (fast && op.make_fast != nullptr) kernel = op.make_fast(spec, batch);
  return kernel != nullptr ? std::move(kernel) : op.make_reference(spec, options_.real);
}

void Executor::make_kernels() {
  for (std::size_t n = 0; n < states_.size(); ++n) {
    states_[n].kernel = make_kernel(n, options_.batch);
  }
}

void Executor::bind() {
  const auto& values = graph_.values();
  const auto& nodes = graph_.nodes();
  values_.resize(values.size());
  gradients_.resize(values.size());
  const auto view = [&](std::size_t v, int buffer) {
    TensorView tensor;
    if (buffer < 0) return tensor;
    tensor.data = arena_.get() + buffers_[static_cast<std::size_t>(buffer)].offset;
    tensor.dtype = real_type(values[v].spec, options_.real);
    tensor.shape = with_batch(options_.batch, values[v].spec.shape);
    return tensor;
  };
  for (std::size_t v = 0; v < values.size(); ++v) {
    values_[v] = view(v, value_buffer_[v]);
    gradients_[v] = view(v, gradient_buffer_[v]);
  }
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    NodeIo& io = states_[n].io;
    io.batch = options_.batch;
    io.training = options_.training;
    for (const int v : nodes[n].inputs) io.inputs.push_back(values_[static_cast<std::size_t>(v)]);
    for (const int v : nodes[n].outputs) {
      io.outputs.push_back(values_[static_cast<std::size_t>(v)]);
      io.grad_outputs.push_back(gradients_[static_cast<std::size_t>(v)]);
    }
    for (const auto& [slot, parameter] : nodes[n].parameters) {
      io.parameters[slot] = parameters_[static_cast<std::size_t>(parameter)].view();
    }
    const auto at = [&](int buffer) {
      return buffer < 0 ? nullptr
                        : arena_.get() + buffers_[static_cast<std::size_t>(buffer)].offset;
    };
    io.saved_per_sample = at(saved_buffer_[n]);
    io.saved_fixed = at(saved_fixed_buffer_[n]);
  }
  // Who writes a value's gradient first in the reverse pass, and who adds to it.
  std::vector<bool> written(values.size(), false);
  written[static_cast<std::size_t>(graph_.outputs().front())] = true;
  for (std::size_t n = nodes.size(); n-- > 0;) {
    NodeIo& io = states_[n].io;
    for (const int v : nodes[n].inputs) {
      const auto index = static_cast<std::size_t>(v);
      const bool wanted = states_[n].has_backward && wants_gradient(v);
      io.grad_inputs.push_back(wanted ? gradients_[index] : TensorView{});
      io.accumulate.push_back(wanted && written[index]);
      if (wanted) written[index] = true;
    }
  }
  // A value without a consumer in the reverse pass has the gradient zero; the executor clears it
  // before backward.
  for (std::size_t v = 0; v < values.size(); ++v) {
    if (!gradients_[v] || written[v]) continue;
    clear(options_.device, gradients_[v]);
  }
}

// From the last node on, so that a chain is taken over as a whole.
void Executor::fuse_epilogues() {
  for (std::size_t n = states_.size(); n-- > 0;) {
    if (!states_[n].fused) fuse_into_producer(n);
  }
}

// Whether nobody else sees `value`, and the consumer's output lies over it.
bool Executor::taken_over(int value, std::size_t consumer) const {
  const auto v = static_cast<std::size_t>(value);
  const auto output = static_cast<std::size_t>(graph_.nodes()[consumer].outputs.front());
  return graph_.values()[v].producer >= 0 && graph_.values()[v].consumers.size() == 1 &&
         !readable_[v] && value_buffer_[v] == value_buffer_[output];
}

void Executor::fuse_into_producer(std::size_t node) {
  const auto& nodes = graph_.nodes();
  const Epilogue& own = nodes[node].op->epilogue;
  if (!own.relu || !taken_over(nodes[node].inputs[0], node)) return;
  const auto producer_of = [&](int value) {
    return static_cast<std::size_t>(graph_.values()[static_cast<std::size_t>(value)].producer);
  };
  const std::size_t producer = producer_of(nodes[node].inputs[0]);
  const Node& sum = nodes[producer];
  // y = max(f(x) + residual, 0): f's kernel does it all where the residual is there by then.
  if (sum.op->epilogue.add && sum.inputs.size() == 2 && taken_over(sum.inputs[0], producer)) {
    const std::size_t first = producer_of(sum.inputs[0]);
    const int residual = graph_.values()[static_cast<std::size_t>(sum.inputs[1])].producer;
    if (residual < static_cast<int>(first) &&
        states_[first].kernel->fuse({.add = true, .relu = true})) {
      states_[first].io.residual = states_[producer].io.inputs[1];
      states_[producer].fused = states_[node].fused = true;
      return;
    }
  }
  if (!states_[producer].fused && states_[producer].kernel->fuse({.relu = true})) {
    states_[node].fused = true;
  }
}

const TensorView& Executor::input(int index) const {
  return values_[static_cast<std::size_t>(graph_.inputs().at(static_cast<std::size_t>(index)))];
}

const TensorView& Executor::output(int index) const {
  return values_[static_cast<std::size_t>(graph_.outputs().at(static_cast<std::size_t>(index)))];
}

const TensorView& Executor::value(const std::string& name) const {
  const auto index = static_cast<std::size_t>(graph_.value_index(name));
  FM_CHECK(readable_[index], STATE, "value '", name, "' was not kept by this pass");
  return values_[index];
}

const TensorView& Executor::output_gradient() const {
  const TensorView& view = gradients_[static_cast<std::size_t>(graph_.outputs().front())];
  FM_CHECK(view, STATE, "this executor was not made for a reverse pass");
  return view;
}

const TensorView& Executor::input_gradient(int index) const {
  FM_CHECK(options_.input_gradients, STATE, "input gradients were not asked for");
  return gradients_[static_cast<std::size_t>(graph_.inputs().at(static_cast<std::size_t>(index)))];
}

// Each node has its own stream, so that adding a node does not shift the others' numbers.
void Executor::prepare(std::size_t node, bool recorded) {
  recording_ = recorded;
  states_[node].io.rng = {step_key_.seed, (step_key_.stream << 16U) ^ node, recorded};
}

void Executor::forget() {
  for (NodeState& state : states_) {
    state.kernel->forget();
    if (state.single != nullptr) state.single->forget();
  }
}

void Executor::forward(PhiloxKey rng) {
  step_key_ = rng;
  PassSteps steps;
  steps.count = states_.size();
  steps.run = [this](std::size_t n, bool recorded) {
    prepare(n, recorded);
    if (!states_[n].fused) states_[n].kernel->forward(states_[n].io);
  };
  steps.forget = [this] { forget(); };
  forward_pass_.run(options_.device, steps);
}

void Executor::backward(const BackwardRequest& request) {
  FM_CHECK(options_.backward, STATE, "this executor was not made for a reverse pass");
  FM_CHECK(request.square_sums.empty() || options_.squares, STATE,
           "this executor was not made for squares");
  PassSteps steps;
  steps.count = states_.size() + 1;
  steps.run = [&](std::size_t step, bool recorded) {
    prepare(step < states_.size() ? states_.size() - 1 - step : 0, recorded);
    backward_step(step, request);
  };
  steps.forget = [this] { forget(); };
  backward_pass(request).run(options_.device, steps);
}

// Node by node from the last one, then the parameters that several nodes share.
void Executor::backward_step(std::size_t step, const BackwardRequest& request) {
  const bool squares = !request.square_sums.empty();
  if (step == states_.size()) {
    if (squares) square_shared(request);
    return;
  }
  const std::size_t node = states_.size() - 1 - step;
  if (!states_[node].has_backward) return;
  backward_node(node, request);
  if (squares) square_node(node, request);
}

Executor::RequestedPass::RequestedPass(const BackwardRequest& request)
    : square_sums(request.square_sums), sink(request.sink) {
  for (const TensorView& view : request.grad_parameters) gradients.push_back(view.data);
}

bool Executor::RequestedPass::serves(const RequestedPass& other) const {
  return gradients == other.gradients && square_sums == other.square_sums && sink == other.sink;
}

RepeatedPass& Executor::backward_pass(const BackwardRequest& request) {
  // A caller alternates between few requests: squares, and sums of gradients.
  constexpr std::size_t kMostRequests = 4;
  RequestedPass wanted(request);
  const auto found = std::find_if(backward_passes_.begin(), backward_passes_.end(),
                                  [&](const RequestedPass& known) { return known.serves(wanted); });
  if (found != backward_passes_.end()) {
    backward_passes_.splice(backward_passes_.begin(), backward_passes_, found);
  } else {
    while (backward_passes_.size() >= kMostRequests) backward_passes_.pop_back();
    backward_passes_.push_front(std::move(wanted));
  }
  return backward_passes_.front().pass;
}

void Executor::backward_node(std::size_t index, const BackwardRequest& request) {
  NodeState& state = states_[index];
  state.io.grad_parameters.clear();
  bool wanted = std::any_of(state.io.grad_inputs.begin(), state.io.grad_inputs.end(),
                            [](const TensorView& view) { return static_cast<bool>(view); });
  if (!request.grad_parameters.empty()) {
    for (const auto& [slot, parameter] : graph_.nodes()[index].parameters) {
      const TensorView& view = request.grad_parameters[static_cast<std::size_t>(parameter)];
      if (!view) continue;
      state.io.grad_parameters[slot] = view;
      wanted = true;
    }
  }
  // Squares of this node read grad_outputs, so they must be taken before those are overwritten: the
  // plan keeps grad_outputs until this node's own backward step, which covers square_node as well.
  if (wanted) state.kernel->backward(state.io);
}

void Executor::square_node(std::size_t index, const BackwardRequest& request) {
  const Node& node = graph_.nodes()[index];
  if (!node.has_trainable_parameter) return;
  NodeState& state = states_[index];
  std::vector<SquareProblem> problems;
  if (request.sink != nullptr) problems = state.kernel->square_rule(state.io);
  std::vector<SquareTask> tasks;
  for (const auto& [slot, parameter_index] : node.parameters) {
    const auto p = static_cast<std::size_t>(parameter_index);
    const Parameter& parameter = graph_.parameters()[p];
    double* sums = request.square_sums[p];
    if (sums == nullptr || !parameter.trainable() || is_shared(parameter)) continue;
    const auto form = std::find_if(problems.begin(), problems.end(),
                                   [&](const SquareProblem& s) { return s.slot == slot; });
    if (form != problems.end()) {
      tasks.push_back({&*form, sums});
    } else {
      square_generic(parameter, sums);
    }
  }
  if (!tasks.empty()) request.sink->accumulate(tasks);
}

void Executor::square_shared(const BackwardRequest& request) {
  for (std::size_t p = 0; p < graph_.parameters().size(); ++p) {
    const Parameter& parameter = graph_.parameters()[p];
    double* sums = request.square_sums[p];
    if (sums == nullptr || !parameter.trainable() || !is_shared(parameter)) continue;
    if (request.sink != nullptr && square_shared_fused(parameter, *request.sink, sums)) continue;
    square_generic(parameter, sums);
  }
}

bool Executor::square_shared_fused(const Parameter& parameter, SquareSink& sink, double* sums) {
  std::vector<SquareProblem> uses;
  for (const ParameterUse& use : parameter.uses) {
    NodeState& state = states_[static_cast<std::size_t>(use.node)];
    if (!state.has_backward) continue;
    for (SquareProblem& problem : state.kernel->square_rule(state.io)) {
      if (problem.slot == use.slot) uses.push_back(std::move(problem));
    }
  }
  const auto described =
      std::count_if(parameter.uses.begin(), parameter.uses.end(), [&](const ParameterUse& use) {
        return states_[static_cast<std::size_t>(use.node)].has_backward;
      });
  return static_cast<std::ptrdiff_t>(uses.size()) == described &&
         sink.accumulate_shared(uses, sums);
}

Kernel& Executor::single_kernel(std::size_t index) {
  NodeState& state = states_[index];
  if (state.single == nullptr) state.single = make_kernel(index, 1);
  return *state.single;
}

NodeIo Executor::sample_io(const NodeState& state, std::int64_t n) const {
  NodeIo io;
  io.batch = 1;
  io.parameters = state.io.parameters;
  for (const TensorView& view : state.io.inputs) io.inputs.push_back(view.sample(n));
  for (const TensorView& view : state.io.outputs) io.outputs.push_back(view.sample(n));
  for (const TensorView& view : state.io.grad_outputs) io.grad_outputs.push_back(view.sample(n));
  io.grad_inputs.resize(io.inputs.size());
  io.accumulate.assign(io.inputs.size(), false);
  if (state.io.saved_per_sample != nullptr) {
    io.saved_per_sample = state.io.saved_per_sample + n * state.saved.bytes_per_sample;
  }
  return io;
}

void Executor::square_generic(const Parameter& parameter, double* sums) {
  // A recording holds every launch on the device; a large batch has more of them, sample after
  // sample, than it would save time.
  constexpr std::int64_t kMostRecordedSamples = 64;
  if (recording_ && options_.batch > kMostRecordedSamples) {
    throw Unrecordable("squares one sample at a time are too many launches");
  }
  const std::int64_t count = element_count(parameter.shape);
  if (sample_gradient_.view().data == nullptr || sample_gradient_.count() < count) {
    sample_gradient_ =
        make_tensor(options_.device, options_.real, {count}, "the gradient of one sample");
    // What other requests recorded writes to the old one.
    for (RequestedPass& requested : backward_passes_) requested.pass.restart();
  }
  TensorView gradient = sample_gradient_.view();
  gradient.shape = parameter.shape;
  for (std::int64_t n = 0; n < options_.batch; ++n) {
    clear(options_.device, gradient);
    // The uses' gradients are added first, then squared.
    for (const ParameterUse& use : parameter.uses) {
      const auto index = static_cast<std::size_t>(use.node);
      if (!states_[index].has_backward) continue;
      NodeIo io = sample_io(states_[index], n);
      io.grad_parameters[use.slot] = gradient;
      single_kernel(index).backward(io);
    }
    if (options_.device != nullptr) {
      options_.device->add_squares(gradient.as<float>(), count, 1.0, sums);
    } else {
      add_squares(gradient, sums);
    }
  }
}

}  // namespace fishermask
