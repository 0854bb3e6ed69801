// Each node of a network alone, at the network's batch: forward, backward for the input, backward
// for the parameters, squares. Operands are the node's own and cold in cache only where they are
// larger than it, so that the sums come out a little below a whole pass.
#include "bench_network.h"
#include "benchmarks.h"
#include "document.h"
#include "fisher/cpu_square_sink.h"
#include "timing.h"

namespace fishermask::bench {
namespace {

class NodeBench {
 public:
  NodeBench(const Network& network, const Node& node, std::int64_t batch, bool training)
      : node_(node), training_(training) {
    if (node.op->make_fast != nullptr) kernel_ = node.op->make_fast(node.spec, batch);
    if (kernel_ == nullptr) kernel_ = node.op->make_reference(node.spec, DType::kF32);
    io_.batch = batch;
    io_.training = training;
    for (const ValueSpec& spec : node.spec.inputs) io_.inputs.push_back(tensor(batch, spec));
    for (const ValueSpec& spec : node.spec.outputs) {
      io_.outputs.push_back(tensor(batch, spec));
      io_.grad_outputs.push_back(tensor(batch, spec));
    }
    for (const auto& [slot, index] : node.parameters) {
      io_.parameters[slot] = network.parameters()[static_cast<std::size_t>(index)].view();
    }
    if (node.op->saved != nullptr) {
      const SavedSpec saved = node.op->saved(node.spec, batch, training);
      io_.saved_per_sample = bytes(saved.bytes_per_sample * batch);
      io_.saved_fixed = bytes(saved.bytes_fixed);
    }
  }

  void forward() { kernel_->forward(io_); }
  void backward_input(bool wanted) {
    clear();
    for (std::size_t i = 0; wanted && i < io_.inputs.size(); ++i) {
      if (io_.inputs[i].dtype != DType::kF32) continue;
      gradients_.resize(io_.inputs.size());
      if (!gradients_[i].view()) gradients_[i] = Tensor(DType::kF32, io_.inputs[i].shape);
      io_.grad_inputs[i] = gradients_[i].view();
    }
    if (wanted) kernel_->backward(io_);
  }
  void backward_parameters() {
    clear();
    for (const auto& [slot, view] : io_.parameters) {
      if (slot.starts_with("running") || view.dtype != DType::kF32) continue;
      if (!sums_.contains(slot)) sums_[slot] = Tensor(DType::kF32, view.shape);
      io_.grad_parameters[slot] = sums_[slot].view();
    }
    if (!io_.grad_parameters.empty()) kernel_->backward(io_);
  }
  void squares() {
    clear();
    if (training_) return;
    const std::vector<SquareProblem> problems = kernel_->square_rule(io_);
    std::vector<SquareTask> tasks;
    for (const SquareProblem& problem : problems) {
      std::vector<double>& sums = squares_[problem.slot];
      sums.resize(static_cast<std::size_t>(io_.parameters.at(problem.slot).count()));
      tasks.push_back({&problem, sums.data()});
    }
    sink_.accumulate(tasks);
  }

 private:
  TensorView tensor(std::int64_t batch, const ValueSpec& spec) {
    memory_.emplace_back(spec.dtype, with_batch(batch, spec.shape));
    if (spec.dtype == DType::kF32) fill_uniform(memory_.back().view(), -1, 1, memory_.size());
    return memory_.back().view();  // whole numbers: zeros, valid as ids and as masks
  }
  std::byte* bytes(std::int64_t count) {
    if (count == 0) return nullptr;
    memory_.emplace_back(DType::kU8, Shape{count});
    return memory_.back().view().data;
  }
  void clear() {
    io_.grad_inputs.assign(io_.inputs.size(), TensorView{});
    io_.accumulate.assign(io_.inputs.size(), false);
    io_.grad_parameters.clear();
  }

  const Node& node_;
  bool training_;
  std::unique_ptr<Kernel> kernel_;
  NodeIo io_;
  std::vector<Tensor> memory_;
  std::vector<Tensor> gradients_;
  std::map<std::string, Tensor> sums_;
  std::map<std::string, std::vector<double>> squares_;
  CpuSquareSink sink_;
};

struct OpTimes {
  int nodes = 0;
  double forward = 0, input = 0, parameters = 0, squares = 0;
};

std::map<std::string, OpTimes> measure(const BenchNetwork& bench, int rounds, Clock clock,
                                       bool training) {
  std::map<std::string, OpTimes> by_op;
  const Graph& graph = bench.network.graph();
  for (const Node& node : graph.nodes()) {
    NodeBench work(bench.network, node, bench.samples, training);
    const bool wants_input =
        !node.inputs.empty() && graph.values()[static_cast<std::size_t>(node.inputs[0])].needs_grad;
    std::vector<Timed> pieces = {{"forward", [&] { work.forward(); }},
                                 {"input", [&] { work.backward_input(wants_input); }},
                                 {"parameters", [&] { work.backward_parameters(); }},
                                 {"squares", [&] { work.squares(); }}};
    run_rounds(pieces, rounds, clock);
    OpTimes& times = by_op[node.spec.op];
    times.nodes += 1;
    times.forward += pieces[0].median();
    times.input += pieces[1].median();
    times.parameters += pieces[2].median();
    times.squares += pieces[3].median();
  }
  return by_op;
}

Json milliseconds(const std::map<std::string, OpTimes>& by_op, bool training) {
  Json out;
  for (const auto& [op, times] : by_op) {
    out[op] = {{"nodes", times.nodes},
               {"forwardMilliseconds", times.forward * 1e3},
               {"backwardInputMilliseconds", times.input * 1e3},
               {"backwardParametersMilliseconds", times.parameters * 1e3}};
    if (!training) out[op]["squaresMilliseconds"] = times.squares * 1e3;
  }
  return out;
}

}  // namespace

Json op_benchmark(const Arguments& arguments) {
  arguments.check_known({"graph", "graph-json", "batch", "seed"});
  const int rounds = rounds_of(arguments, 7);
  const Clock clock = clock_of(arguments);
  const BenchNetwork bench(arguments);
  Json document = {{"network", bench.network.graph().name()}, {"batch", bench.samples}};
  document.update(settings_of(arguments, rounds));
  document["evaluationMode"] = milliseconds(measure(bench, rounds, clock, false), false);
  document["trainingMode"] = milliseconds(measure(bench, rounds, clock, true), true);
  return document;
}

}  // namespace fishermask::bench
