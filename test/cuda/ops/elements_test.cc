// The CUDA kernels of the elementwise ops, the reductions and the ops that move values, at sizes
// that fit no tile: against the CPU's f64 reference, bit for bit twice, and one sample at a time
// with kernels that never ran forward, as the generic Fisher rule does.
#include <cmath>
#include <cstring>
#include <limits>

#include "cuda/device_support.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr double kTolerance = 1e-5;  // as for the CPU's own f32 kernels

using Integers = std::vector<std::int64_t>;

// An OpRun whose tensors live on the device.
class DeviceCase {
 public:
  DeviceCase(const OpDefinition& op, const SampleCase& sample_case)
      : run(op, sample_case, false), reference(op, sample_case, false), io(run.io) {
    send(run.inputs, inputs_, io.inputs);
    send(run.outputs, outputs_, io.outputs);
    send(run.grad_outputs, grad_outputs_, io.grad_outputs);
    send(run.grad_inputs, grad_inputs_, io.grad_inputs);
    for (const auto& [slot, tensor] : run.parameters) {
      io.parameters[slot] = parameters_.emplace(slot, DeviceTensor(tensor)).first->second.view();
    }
    for (const auto& [slot, tensor] : run.grad_parameters) {
      io.grad_parameters[slot] =
          grad_parameters_.emplace(slot, DeviceTensor(tensor)).first->second.view();
    }
    saved_bytes_ = run.saved_spec().bytes_per_sample;
    saved_ = device().allocate(saved_bytes_ * io.batch + 1, "saved");
    io.saved_per_sample = saved_.get();
    reference.forward();
    reference.backward();
  }

  void forward_and_backward() {
    const auto kernel = device().make_kernel(run.node(), io.batch);
    REQUIRE(kernel != nullptr);
    clear_gradients();
    kernel->forward(io);
    kernel->backward(io);
    read_back();
  }

  // Backward alone, sample by sample; parameter gradients add up.
  void backward_by_samples() {
    clear_gradients();
    for (std::int64_t n = 0; n < io.batch; ++n) {
      NodeIo one = io;
      one.batch = 1;
      for (auto* views : {&one.inputs, &one.outputs, &one.grad_outputs, &one.grad_inputs}) {
        for (TensorView& view : *views) {
          if (view) view = view.sample(n);
        }
      }
      one.saved_per_sample += n * saved_bytes_;
      const auto kernel = device().make_kernel(run.node(), 1);
      REQUIRE(kernel != nullptr);
      kernel->backward(one);
    }
    read_back();
  }

  [[nodiscard]] double distance() const {
    double worst = 0;
    const auto note = [&](const Tensor& a, const Tensor& b) {
      if (a.dtype() != DType::kI32) worst = std::max(worst, relative_distance<float, double>(a, b));
    };
    for (std::size_t i = 0; i < run.outputs.size(); ++i) note(run.outputs[i], reference.outputs[i]);
    for (std::size_t i = 0; i < run.grad_inputs.size(); ++i) {
      if (io.grad_inputs[i]) note(run.grad_inputs[i], reference.grad_inputs[i]);
    }
    for (const auto& [slot, gradient] : run.grad_parameters) {
      note(gradient, reference.grad_parameters.at(slot));
    }
    return worst;
  }

  // All results, for a comparison of bits.
  [[nodiscard]] std::vector<float> results() const {
    std::vector<float> all;
    const auto take = [&](const Tensor& tensor) {
      if (tensor.dtype() != DType::kF32) return;
      const auto values = tensor.span<float>();
      all.insert(all.end(), values.begin(), values.end());
    };
    for (const Tensor& tensor : run.outputs) take(tensor);
    for (const Tensor& tensor : run.grad_inputs) take(tensor);
    for (const auto& [slot, tensor] : run.grad_parameters) take(tensor);
    return all;
  }

  OpRun<float> run;
  OpRun<double> reference;
  NodeIo io;

 private:
  static void send(const std::vector<Tensor>& tensors, std::vector<DeviceTensor>& kept,
                   std::vector<TensorView>& views) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      kept.emplace_back(tensors[i]);
      if (views[i]) views[i] = kept.back().view();
    }
  }
  // Input gradients are overwritten: NaN shows what is left out. Parameters' are added to.
  void clear_gradients() {
    for (const TensorView& view : io.grad_inputs) {
      if (!view) continue;
      const std::vector<float> nan(static_cast<std::size_t>(view.count()),
                                   std::numeric_limits<float>::quiet_NaN());
      device().upload(view.data, reinterpret_cast<const std::byte*>(nan.data()), view.bytes());
    }
    for (const auto& [slot, view] : io.grad_parameters) device().zero(view.data, view.bytes());
  }
  void read_back() const {
    for (std::size_t i = 0; i < outputs_.size(); ++i) outputs_[i].read(run.outputs[i]);
    for (std::size_t i = 0; i < grad_inputs_.size(); ++i) {
      if (io.grad_inputs[i]) grad_inputs_[i].read(run.grad_inputs[i]);
    }
    for (const auto& [slot, tensor] : grad_parameters_) tensor.read(run.grad_parameters.at(slot));
  }

  std::vector<DeviceTensor> inputs_, outputs_, grad_outputs_, grad_inputs_;
  std::map<std::string, DeviceTensor> parameters_, grad_parameters_;
  std::shared_ptr<std::byte> saved_;
  std::int64_t saved_bytes_ = 0;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check(const char* op, const SampleCase& sample_case) {
  CAPTURE(std::string(op));
  CAPTURE(sample_case.name);
  DeviceCase one(find_op(op), sample_case);
  one.forward_and_backward();
  CHECK(one.distance() <= kTolerance);
  const std::vector<float> first = one.results();
  one.forward_and_backward();
  CHECK(same_bits(first, one.results()));
  one.backward_by_samples();
  CHECK(one.distance() <= kTolerance);
}

void check_all(const char* op, const std::vector<SampleCase>& cases) {
  for (const SampleCase& sample_case : cases) check(op, sample_case);
}

// A node of one input on the device, f32 as drawn from `values`.
struct OneInput {
  OneInput(const char* op, const Tensor& x, std::map<std::string, Attribute> attributes) {
    node.name = "node";
    node.op = op;
    node.inputs = {{{x.shape().begin() + 1, x.shape().end()}, DType::kF32}};
    node.attributes = Attributes(std::move(attributes));
    node.outputs = find_op(op).infer(node);
    input = DeviceTensor(x);
    output = DeviceTensor(Tensor(x.dtype(), with_batch(x.shape()[0], node.outputs[0].shape)));
    io.batch = x.shape()[0];
    io.inputs = {input.view()};
    io.outputs = {output.view()};
    kernel = device().make_kernel(node, io.batch);
    REQUIRE(kernel != nullptr);
  }
  Tensor forward() {
    kernel->forward(io);
    return output.host();
  }
  NodeSpec node;
  DeviceTensor input, output;
  NodeIo io;
  std::unique_ptr<Kernel> kernel;
};

}  // namespace

TEST_CASE("elementwise functions beyond one block, and from addresses that no quad begins at") {
  // 33 · 31 is odd: every second sample begins off a multiple of 16 bytes.
  for (const char* op : {"gelu", "silu", "erf", "tanh", "sigmoid", "neg", "floor", "clip", "exp"}) {
    check(op, {.name = "odd image", .inputs = {{33, 31}}, .batch = 5, .draws = {{-3, 3}}});
  }
  check("gelu", {.name = "tanh form",
                 .inputs = {{4, 33, 20}},
                 .attributes = {{"approximate", std::string("tanh")}},
                 .draws = {{-5, 5}}});
}

TEST_CASE("erf and gelu keep their digits in f32") {
  const std::vector<float> points = {-6.0F, -4.0F, -1.0F, -1e-4F, 0.0F, 1e-4F, 1.0F, 4.0F, 6.0F};
  const Tensor x = tensor_of<float>({1, 9}, points);
  const Tensor erf = OneInput("erf", x, {}).forward();
  const Tensor gelu = OneInput("gelu", x, {}).forward();
  for (std::size_t i = 0; i < points.size(); ++i) {
    const double z = points[i];
    CHECK(erf.as<float>()[i] == doctest::Approx(std::erf(z)).epsilon(4e-7));
    const double exact = z * 0.5 * (1 + std::erf(z / std::numbers::sqrt2));
    CHECK(std::abs(gelu.as<float>()[i] - exact) <= 4e-7 * std::max(1.0, std::abs(exact)));
  }
}

TEST_CASE("add of more inputs than one pass takes, in place over an input that comes again") {
  for (const std::size_t inputs :
       {std::size_t{2}, std::size_t{3}, std::size_t{8}, std::size_t{9}, std::size_t{17}}) {
    check("add", {.name = "many", .inputs = std::vector<Shape>(inputs, Shape{33, 5}), .batch = 2});
    CAPTURE(inputs);
    NodeSpec node = node_of(find_op("add"),
                            {.name = "in place", .inputs = std::vector<Shape>(inputs, Shape{131})});
    std::vector<DeviceTensor> terms;
    NodeIo io;
    io.batch = 2;
    std::vector<double> expected(262, 0.0);
    for (std::size_t k = 0; k < inputs; ++k) {
      const std::vector<float> values = normals(262, k + 1 == inputs ? 0 : k);
      terms.emplace_back(tensor_of<float>({2, 131}, values));
      io.inputs.push_back(k + 1 == inputs ? terms[0].view() : terms[k].view());
      for (std::size_t i = 0; i < values.size(); ++i) expected[i] += values[i];
    }
    io.outputs = {terms[0].view()};
    const auto kernel = device().make_kernel(node, 2);
    REQUIRE(kernel->fuse({.add = false, .relu = true}));
    kernel->forward(io);
    const Tensor y = terms[0].host();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CHECK(y.as<float>()[i] == doctest::Approx(std::max(expected[i], 0.0)).epsilon(1e-5));
    }
  }
}

TEST_CASE("broadcasting at sizes that fit nothing, on both sides, to six sizes") {
  for (const char* op : {"mul", "div", "maximum", "sub", "pow"}) {
    const std::vector<InputDraw> draws = {{0.5, 2}, {0.5, 2}};
    check_all(op, {
                      {.name = "last size", .inputs = {{31, 33}, {33}}, .draws = draws},
                      {.name = "quads", .inputs = {{5, 7, 36}, {36}}, .draws = draws},
                      {.name = "quads, column", .inputs = {{33, 20}, {33, 1}}, .draws = draws},
                      {.name = "six sizes, both",
                       .inputs = {{2, 3, 1, 5, 2, 7}, {3, 4, 1, 2, 1}},
                       .draws = draws},
                      {.name = "six sizes, first and last",
                       .inputs = {{1, 2, 3, 1, 2, 4}, {5, 2, 3, 3, 2, 1}},
                       .batch = 2,
                       .draws = draws},
                      {.name = "other, last",
                       .inputs = {{31, 130}},
                       .parameters = {{"other", {130}}},
                       .draws = {{0.5, 2}}},
                  });
  }
}

TEST_CASE("gradients of repeated operands: every block form, and slices") {
  check_all(
      "mul",
      {
          {.name = "few terms", .inputs = {{130, 33}, {33}}, .batch = 1},
          {.name = "long columns, slices", .inputs = {{1500, 33}, {33}}, .batch = 2},
          {.name = "three columns, slices", .inputs = {{2500, 3}, {3}}, .batch = 2},
          {.name = "one column", .inputs = {{3, 700}, {}}, .batch = 3},
          {.name = "one sum of a slot, slices", .inputs = {{9001}}, .parameters = {{"other", {}}}},
          {.name = "short rows", .inputs = {{130, 31}, {130, 1}}, .batch = 2},
          {.name = "long rows", .inputs = {{9, 1030}, {9, 1}}, .batch = 2},
          {.name = "rows of a slot", .inputs = {{33, 130}}, .parameters = {{"other", {33, 1}}}},
          {.name = "batch alone",
           .inputs = {{33, 31}},
           .parameters = {{"other", {33, 31}}},
           .batch = 17},
          {.name = "a middle size", .inputs = {{31, 5, 33}, {5, 1}}, .batch = 2},
      });
}

TEST_CASE("where with three operands that broadcast") {
  check_all("where",
            {
                {.name = "one shape", .inputs = {{33, 31}, {33, 31}, {33, 31}}},
                {.name = "masked scores", .inputs = {{1, 33, 36}, {3, 33, 36}, {}}, .batch = 2},
                {.name = "six sizes",
                 .inputs = {{2, 1, 3, 1, 2, 1}, {3, 1, 5, 1, 4}, {1, 3, 3, 1, 2, 1}}},
            });
}

TEST_CASE("reductions along any axes") {
  const auto rows = [](InputDraw draw) -> std::vector<SampleCase> {
    return {
        {.name = "last",
         .inputs = {{31, 33}},
         .attributes = {{"axes", Integers{1}}},
         .draws = {draw}},
        {.name = "first",
         .inputs = {{130, 31}},
         .attributes = {{"axes", Integers{0}}},
         .draws = {draw}},
        {.name = "middle of six",
         .inputs = {{2, 3, 5, 1, 4, 3}},
         .attributes = {{"axes", Integers{1, 2, 4}}, {"keepdims", false}},
         .batch = 2,
         .draws = {draw}},
        {.name = "outer ones",
         .inputs = {{3, 33, 2, 31}},
         .attributes = {{"axes", Integers{0, 3}}},
         .draws = {draw}},
    };
  };
  for (const char* op : {"reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_l1",
                         "reduce_l2", "reduce_log_sum_exp"}) {
    check_all(op, rows({}));
    check(op, {.name = "all, slices", .inputs = {{9001}}, .batch = 2});
    check(op, {.name = "long columns, slices",
               .inputs = {{2000, 5}},
               .attributes = {{"axes", Integers{0}}},
               .batch = 2});
  }
  check_all("reduce_prod", rows({0.8, 1.25}));
}

TEST_CASE("reductions of NaN, infinities, ties and zeros as the CPU's") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<float>> rows = {
      {1, 3, 3, -2},  {nan, 1, 2, 3}, {1, nan, nan, 0}, {-inf, -inf, -inf, -inf},
      {inf, 1, 2, 3}, {0, 0, 0, 0},   {2, 0, 3, 4},     {0, 5, 0, 1}};
  for (const char* op : {"reduce_max", "reduce_min", "reduce_prod", "reduce_l1", "reduce_l2",
                         "reduce_log_sum_exp"}) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
      CAPTURE(std::string(op));
      CAPTURE(r);
      DeviceCase one(find_op(op), {.name = "row", .inputs = {{4}}, .batch = 1});
      const Tensor x = tensor_of<float>({1, 4}, rows[r]);
      device().upload(one.io.inputs[0].data, x.view().data, x.view().bytes());
      std::copy(rows[r].begin(), rows[r].end(), one.reference.inputs[0].as<double>());
      one.reference.forward();
      one.reference.backward();
      one.forward_and_backward();
      const auto same = [](float a, double b) {
        if (std::isnan(b)) return std::isnan(a);
        return std::isinf(b) ? a == b : a == doctest::Approx(b);
      };
      CHECK(same(one.run.outputs[0].as<float>()[0], one.reference.outputs[0].as<double>()[0]));
      for (std::size_t i = 0; i < 4; ++i) {
        CAPTURE(i);
        CHECK(same(one.run.grad_inputs[0].as<float>()[i],
                   one.reference.grad_inputs[0].as<double>()[i]));
      }
    }
  }
}

TEST_CASE("transpose in tiles, in quads and by elements") {
  const auto row = [](const char* name, const Shape& shape, const Integers& perm) -> SampleCase {
    return {.name = name, .inputs = {shape}, .attributes = {{"perm", perm}}, .batch = 2};
  };
  check_all("transpose", {
                             row("tiles", {33, 65}, {1, 0}),
                             row("tiles, one line over", {1, 33, 130}, {2, 1, 0}),
                             row("tiles with an axis between", {31, 5, 33}, {2, 1, 0}),
                             row("tiles, several outer", {3, 40, 2, 9}, {2, 3, 0, 1}),
                             row("narrow", {130, 3}, {1, 0}),
                             row("heads", {31, 3, 8}, {1, 0, 2}),
                             row("heads, odd", {31, 3, 5}, {1, 0, 2}),
                             row("six sizes", {2, 3, 4, 5, 2, 3}, {5, 3, 1, 0, 4, 2}),
                             row("six sizes, last kept", {3, 2, 2, 3, 2, 8}, {3, 1, 0, 2, 4, 5}),
                         });
  check_all("flatten", {{.name = "image", .inputs = {{9, 7, 33}}, .batch = 2},
                        {.name = "wide image", .inputs = {{2, 3, 130}}}});
}

TEST_CASE("slice, pad, concat, reshape and expand at sizes that fit nothing") {
  check_all("slice", {
                         {.name = "quads",
                          .inputs = {{31, 64}},
                          .attributes = {{"starts", Integers{1, 16}},
                                         {"steps", Integers{1, 1}},
                                         {"sizes", Integers{29, 36}}}},
                         {.name = "backwards",
                          .inputs = {{33, 31, 3}},
                          .attributes = {{"starts", Integers{32, 30, 0}},
                                         {"steps", Integers{-2, -1, 1}},
                                         {"sizes", Integers{16, 31, 2}}}},
                         {.name = "backwards along the last",
                          .inputs = {{33, 130}},
                          .attributes = {{"starts", Integers{0, 129}},
                                         {"steps", Integers{1, -1}},
                                         {"sizes", Integers{33, 130}}}},
                     });
  check_all("pad",
            {
                {.name = "image",
                 .inputs = {{31, 7, 33}},
                 .attributes = {{"before", Integers{1, 2, 3}},
                                {"after", Integers{0, 1, 2}},
                                {"value", 0.5}}},
                {.name = "quads",
                 .inputs = {{5, 8, 20}},
                 .attributes = {{"before", Integers{1, 1, 4}}, {"after", Integers{1, 1, 8}}}},
            });
  check_all("concat",
            {
                {.name = "channels", .inputs = {{31, 1}, {31, 33}, {31, 130}}, .batch = 2},
                {.name = "quads", .inputs = {{7, 8}, {7, 36}}},
                {.name = "first",
                 .inputs = {{1, 33}, {31, 33}},
                 .attributes = {{"axis", std::int64_t{0}}}},
                {.name = "middle of six",
                 .inputs = {{2, 3, 1, 2, 3, 2}, {2, 3, 4, 2, 3, 2}},
                 .attributes = {{"axis", std::int64_t{2}}}},
            });
  check("reshape",
        {.name = "odd", .inputs = {{31, 33}}, .attributes = {{"shape", Integers{33, 31}}}});
  check_all(
      "expand",
      {
          {.name = "rows", .inputs = {{1, 130}}, .attributes = {{"shape", Integers{33, 130}}}},
          {.name = "columns", .inputs = {{31, 1}}, .attributes = {{"shape", Integers{31, 33}}}},
          {.name = "six sizes",
           .inputs = {{3, 1, 2, 1}},
           .attributes = {{"shape", Integers{2, 4, 3, 5, 2, 7}}}},
          {.name = "slices",
           .inputs = {{1, 3}},
           .attributes = {{"shape", Integers{3000, 3}}},
           .batch = 2},
      });
}

TEST_CASE("values move as i32 too") {
  std::vector<float> values(std::size_t{2} * 33 * 20);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const Tensor x = tensor_of<std::int32_t>({2, 33, 20}, values);
  OneInput transpose("transpose", x, {{"perm", Integers{1, 0}}});
  const Tensor y = transpose.forward();
  REQUIRE(y.dtype() == DType::kI32);
  for (std::int64_t i = 0; i < 33; ++i) {
    for (std::int64_t j = 0; j < 20; ++j) {
      CHECK(y.as<std::int32_t>()[(20 + j) * 33 + i] == (33 + i) * 20 + j);
    }
  }
  OneInput pad("pad", x, {{"before", Integers{1, 0}}, {"after", Integers{0, 0}}, {"value", -7.0}});
  const Tensor padded = pad.forward();
  CHECK(padded.as<std::int32_t>()[0] == -7);
  CHECK(padded.as<std::int32_t>()[20 + 5] == 5);
}

TEST_CASE("take of blocks and of one place by many") {
  Integers rows, windows, many, odd;
  for (std::int64_t j = 0; j < 33; ++j) {
    for (std::int64_t k = 0; k < 8; ++k) rows.push_back(j % 5 == 4 ? -1 : (j * 7 % 13) * 8 + k);
  }
  for (std::int64_t j = 0; j < 131; ++j) windows.push_back(j % 11 == 0 ? -1 : j * 37 % 97);
  for (std::int64_t j = 0; j < 300; ++j) many.push_back(j % 3 == 0 ? 1 : 4);
  for (std::int64_t j = 0; j < 400; ++j) odd.push_back((j / 100 == 2 ? 1 : 0) * 2 + j % 2);
  const auto row = [](const char* name, const Shape& x, const Integers& index) -> SampleCase {
    return {.name = name,
            .inputs = {x},
            .attributes = {{"shape", Integers{static_cast<std::int64_t>(index.size())}},
                           {"index", index}}};
  };
  check_all("take", {row("rows in quads", {13, 8}, rows), row("single values", {97}, windows),
                     row("one by many", {7}, many), row("pairs by many", {2, 2}, odd)});
}

TEST_CASE("gather: repeats, several outer positions, more positions than a warp holds") {
  const auto row = [](const char* name, const Shape& x, const Shape& ids, std::int64_t axis,
                      std::int64_t batch) -> SampleCase {
    const double length = static_cast<double>(x[static_cast<std::size_t>(axis)]);
    return {.name = name,
            .inputs = {x, ids},
            .attributes = {{"axis", axis}},
            .batch = batch,
            .draws = {{}, {-length, length, true}}};
  };
  check_all("gather", {row("tokens", {31, 130}, {77}, 0, 3), row("last", {5, 33}, {4, 9}, 1, 2),
                       row("middle", {3, 9, 65}, {130}, 1, 2), row("one id", {33, 1}, {}, 0, 5)});
}

TEST_CASE("gather names the first id that is out of range") {
  const SampleCase sample_case = {.name = "ids",
                                  .inputs = {{6, 5}, {9}},
                                  .attributes = {{"axis", std::int64_t{0}}},
                                  .batch = 3,
                                  .draws = {{}, {0, 6, true}}};
  DeviceCase one(find_op("gather"), sample_case);
  Tensor ids = one.run.inputs[1];
  ids.as<std::int32_t>()[13] = -7;
  ids.as<std::int32_t>()[20] = 6;
  device().upload(one.io.inputs[1].data, ids.view().data, ids.view().bytes());
  const auto kernel = device().make_kernel(one.run.node(), 3);
  try {
    kernel->forward(one.io);
    FAIL("expected an error");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kARGUMENT);
    CHECK(std::string(error.what()).find("but received -7 in sample 1") != std::string::npos);
  }
}

TEST_CASE("scatter of many updates, with places named again") {
  Integers index;
  for (std::int64_t j = 0; j < 331; ++j) index.push_back(j * j % 127 * 2);
  for (const char* reduction : {"none", "add", "max", "min"}) {
    check("scatter", {.name = reduction,
                      .inputs = {{33, 31}, {331}},
                      .attributes = {{"index", index}, {"reduction", std::string(reduction)}}});
  }
  check("scatter", {.name = "mul",
                    .inputs = {{33, 31}, {331}},
                    .attributes = {{"index", index}, {"reduction", std::string("mul")}},
                    .draws = {{0.8, 1.2}, {0.8, 1.2}}});
}

TEST_CASE("squares of a product's slot read zeros and ones of the device") {
  const SampleCase sample_case = {
      .name = "scale", .inputs = {{4, 33}}, .parameters = {{"other", {33}}}};
  DeviceCase one(find_op("mul"), sample_case);
  const auto kernel = device().make_kernel(one.run.node(), 3);
  const std::vector<SquareProblem> problems = kernel->square_rule(one.io);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].slot == "other");
  const auto& form = std::get<ReductionForm>(problems[0].form);
  CHECK(form.batch == 3);
  CHECK(form.positions == 4);
  CHECK(form.channels == 33);
  CHECK(form.input == one.io.inputs[0].as<float>());
  std::vector<float> mean(33, 9.0F), inv_std(33, 9.0F);
  const auto read = [](std::vector<float>& to, const float* from) {
    device().download(reinterpret_cast<std::byte*>(to.data()),
                      reinterpret_cast<const std::byte*>(from),
                      static_cast<std::int64_t>(to.size() * sizeof(float)));
  };
  read(mean, form.mean);
  read(inv_std, form.inv_std);
  CHECK(mean == std::vector<float>(33, 0.0F));
  CHECK(inv_std == std::vector<float>(33, 1.0F));
}

TEST_CASE("backward of sums and differences needs no inputs") {
  for (const char* op : {"binary_add", "sub", "reduce_sum", "reduce_mean"}) {
    const bool two = op[0] == 'b' || op[0] == 's';
    DeviceCase one(find_op(op), {.name = "no inputs",
                                 .inputs = two ? std::vector<Shape>{{9, 33}, {33}}
                                               : std::vector<Shape>{{9, 33}}});
    one.forward_and_backward();
    for (TensorView& view : one.io.inputs) view = {};
    for (TensorView& view : one.io.outputs) view = {};
    one.backward_by_samples();
    CAPTURE(std::string(op));
    CHECK(one.distance() <= kTolerance);
  }
}
