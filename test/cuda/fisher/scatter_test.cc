// The device's scatters (embedding), and embeddings tied to a head, against their definitions in
// f64.
#include "cuda/fisher/device_sums.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

struct ScatterCase {
  std::int64_t batch, positions, channels, rows;
  std::int64_t lowest = 0;  // ids are drawn from [lowest, rows)
};

std::string describe(const ScatterCase& c) {
  return text("batch ", c.batch, ", positions ", c.positions, ", channels ", c.channels, ", rows ",
              c.rows, ", ids from ", c.lowest);
}

// An embedding on the device, and a head of the same matrix.
class RandomUses {
 public:
  explicit RandomUses(const ScatterCase& c, Device& on = device())
      : on_(&on),
        host_delta_(normals(c.batch * c.positions * c.channels, 1)),
        host_input_(normals(c.batch * c.positions * c.channels, 2)),
        host_head_delta_(normals(c.batch * c.positions * c.rows, 3)),
        ids(draw_ids(c)),
        delta_(on, host_delta_),
        input_(on, host_input_),
        head_delta_(on, host_head_delta_),
        ids_(on, ids) {
    embedding.grad_output = delta_.data(), embedding.ids = ids_.data();
    embedding.batch = c.batch, embedding.positions = c.positions;
    embedding.channels = c.channels, embedding.rows = c.rows;
    head.grad_output = head_delta_.data(), head.input = input_.data();
    head.batch = c.batch;
    head.in_width = head.out_width = c.positions;
    head.in_channels = c.channels, head.out_channels = c.rows;
  }
  RandomUses(const RandomUses&) = delete;
  RandomUses& operator=(const RandomUses&) = delete;

  [[nodiscard]] std::int64_t weights() const { return embedding.rows * embedding.channels; }
  [[nodiscard]] std::vector<double> scattered(double start) const {
    return sink_sums(*on_, embedding, weights(), start);
  }
  // The sums of accumulate_shared, which must take the two.
  [[nodiscard]] std::vector<double> tied(double start) const {
    const DeviceArray<double> sums(*on_,
                                   std::vector<double>(static_cast<std::size_t>(weights()), start));
    const SquareProblem uses[] = {{"weight", embedding}, {"weight", head}};
    REQUIRE(on_->make_square_sink()->accumulate_shared(uses, sums.data()));
    return sums.host();
  }

  [[nodiscard]] std::vector<double> naive(bool with_head, double start) const {
    std::vector<double> sums(static_cast<std::size_t>(weights()), start);
    for (std::int64_t n = 0; n < embedding.batch; ++n) {
      std::vector<double> gradient(sums.size());
      for (std::int64_t p = n * embedding.positions; p < (n + 1) * embedding.positions; ++p) {
        add_position(p, with_head, gradient);
      }
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += gradient[i] * gradient[i];
    }
    return sums;
  }

  ContractionForm head;
  ScatterForm embedding;

 private:
  static std::vector<std::int32_t> draw_ids(const ScatterCase& c) {
    const InputDraw draw = {static_cast<double>(c.lowest), static_cast<double>(c.rows), true};
    std::vector<std::int32_t> drawn;
    for (const float id : uniforms(c.batch * c.positions, 4, draw)) {
      drawn.push_back(static_cast<std::int32_t>(id));
    }
    return drawn;
  }
  void add_position(std::int64_t p, bool with_head, std::vector<double>& gradient) const {
    const auto at = [](const std::vector<float>& values, std::int64_t i) {
      return static_cast<double>(values[static_cast<std::size_t>(i)]);
    };
    const std::int64_t channels = embedding.channels;
    const std::int32_t id = ids[static_cast<std::size_t>(p)];
    for (std::int64_t c = 0; c < channels; ++c) {
      if (id >= 0) {
        gradient[static_cast<std::size_t>(id * channels + c)] += at(host_delta_, p * channels + c);
      }
      for (std::int64_t v = 0; with_head && v < embedding.rows; ++v) {
        gradient[static_cast<std::size_t>(v * channels + c)] +=
            at(host_head_delta_, p * embedding.rows + v) * at(host_input_, p * channels + c);
      }
    }
  }

  Device* on_;
  std::vector<float> host_delta_, host_input_, host_head_delta_;

 public:
  std::vector<std::int32_t> ids;

 private:
  DeviceArray<float> delta_, input_, head_delta_;
  DeviceArray<std::int32_t> ids_;
};

// One and several tiles of the sort (1024 keys), one row for all, rows that no position holds,
// channels below and above a block.
constexpr ScatterCase kCases[] = {{1, 1, 1, 1},          {3, 7, 5, 4},        {2, 65, 33, 1},
                                  {5, 20, 17, 6, -1},    {4, 3, 64, 100},     {1, 50, 130, 3, -2},
                                  {6, 4, 16, 2, -100},   {9, 31, 1, 40, -5},  {3, 700, 3, 7, -1},
                                  {1, 1025, 2, 1000, 0}, {2, 512, 1, 300, -9}};
constexpr ScatterCase kTied[] = {
    {1, 1, 1, 1}, {3, 5, 7, 4}, {2, 9, 33, 50}, {5, 6, 20, 3, -1}, {9, 17, 132, 9, -2}};

}  // namespace

TEST_CASE("cuda scatters: against the definition, added to what was there, the same bits twice") {
  for (const ScatterCase& c : kCases) {
    const RandomUses problem(c);
    const std::vector<double> sums = problem.scattered(0.25);
    const double error = relative_error(sums, problem.naive(false, 0.25));
    CHECK_MESSAGE(error <= 1e-14, describe(c), ": ", error);
    CHECK_MESSAGE(same_bits(sums, problem.scattered(0.25)), describe(c));
  }
}

TEST_CASE("cuda scatters: the positions of one row are added before they are squared") {
  const DeviceArray<float> delta(device(), std::vector<float>{1, 10, 2, 20, 4, 40, 8, 80});
  const DeviceArray<std::int32_t> ids(device(), std::vector<std::int32_t>{1, -1, 1, 0});
  ScatterForm form;
  form.grad_output = delta.data(), form.ids = ids.data();
  form.batch = 1, form.positions = 4, form.channels = 2, form.rows = 3;
  CHECK(sink_sums(device(), form, 6, 0.0) == std::vector<double>{64, 6400, 25, 2500, 0, 0});
  // As two samples of two positions, row 1 is squared in each alone.
  form.batch = 2, form.positions = 2;
  CHECK(sink_sums(device(), form, 6, 0.0) == std::vector<double>{64, 6400, 17, 1700, 0, 0});
  form.batch = 0;
  CHECK(sink_sums(device(), form, 6, 3.0) == std::vector<double>(6, 3.0));
}

TEST_CASE("cuda scatters: an id beyond the rows is refused before anything is added") {
  RandomUses problem({2, 5, 3, 4});
  problem.ids.back() = 4;
  const DeviceArray<std::int32_t> bad(device(), problem.ids);
  problem.embedding.ids = bad.data();
  const DeviceArray<double> sums(device(), std::vector<double>(12, 0.5));
  const SquareProblem uses[] = {{"weight", problem.embedding}, {"weight", problem.head}};
  const SquareTask task = {&uses[0], sums.data()};
  const auto sink = device().make_square_sink();
  CHECK_THROWS_AS(sink->accumulate(std::span(&task, 1)), Error);
  CHECK_THROWS_AS((void)sink->accumulate_shared(uses, sums.data()), Error);
  CHECK(sums.host() == std::vector<double>(12, 0.5));
}

TEST_CASE("cuda tied embeddings: against the definition, the same bits twice") {
  const std::pair<Precision, double> tolerances[] = {
      {Precision::kF32, 2e-6}, {Precision::kTf32, 2e-3}, {Precision::kBf16, 2e-2}};
  for (const auto& [precision, tolerance] : tolerances) {
    for (const ScatterCase& c : kTied) {
      const RandomUses problem(c, device(precision));
      const std::vector<double> sums = problem.tied(0.25);
      const double error = relative_error(sums, problem.naive(true, 0.25));
      CHECK_MESSAGE(error <= tolerance, describe(c), ", ", precision_name(precision), ": ", error);
      CHECK_MESSAGE(same_bits(sums, problem.tied(0.25)), describe(c));
    }
  }
}

TEST_CASE("cuda tied embeddings: the sink takes the two uses, and no other pair") {
  const RandomUses problem({3, 5, 7, 4});
  const DeviceArray<double> sums(device(), std::vector<double>(28, 0.25));
  const SquareProblem head = {"weight", problem.head};
  const SquareProblem embedding = {"weight", problem.embedding};
  ContractionForm strided = problem.head;
  strided.stride_width = 2;
  const auto sink = device().make_square_sink();
  CHECK_FALSE(sink->accumulate_shared(std::vector{head, head}, sums.data()));
  CHECK_FALSE(sink->accumulate_shared(std::vector{head}, sums.data()));
  CHECK_FALSE(sink->accumulate_shared(std::vector{head, embedding, embedding}, sums.data()));
  CHECK_FALSE(sink->accumulate_shared(std::vector<SquareProblem>{{"weight", strided}, embedding},
                                      sums.data()));
  CHECK(sums.host() == std::vector<double>(28, 0.25));
  CHECK(sink->accumulate_shared(std::vector{head, embedding}, sums.data()));
  CHECK(same_bits(sums.host(), problem.tied(0.25)));
}
