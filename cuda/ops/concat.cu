// concat: the inputs one after the other along one size; one copy each (core/strided_map.h,
// moves.cu). Gradients are written in the order of the inputs, so that two of them may be the same
// memory. Deterministic: yes. Bound by memory.
#include "ops/strided_map.cuh"

namespace fishermask::cuda {
namespace {

class Concat : public Kernel {
 public:
  Concat(const NodeSpec& node, const KernelContext& context) : context_(context) {
    for (std::size_t k = 0; k < node.inputs.size(); ++k) maps_.push_back(concat_map(node, k));
  }

  void forward(const NodeIo& io) override {
    for (std::size_t k = 0; k < maps_.size(); ++k) {
      copy_strided(context_.stream, maps_[k], io.batch, words_of(io.inputs[k]),
                   words_of(io.outputs[0]), false);
    }
  }

  void backward(const NodeIo& io) override {
    for (std::size_t k = 0; k < maps_.size(); ++k) {
      if (!io.grad_inputs[k]) continue;
      copy_strided(context_.stream, maps_[k].reversed(), io.batch, io.grad_outputs[0].as<float>(),
                   io.grad_inputs[k].as<float>(), io.accumulate[k]);
    }
  }

 private:
  std::vector<StridedMap> maps_;  // by input
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Concat>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("concat", make)

}  // namespace fishermask::cuda
