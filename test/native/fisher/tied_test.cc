// The fused kernel of tied embeddings against its definition in f64.
#include "fisher/tied.h"

#include <doctest/doctest.h>

#include <cstring>

#include "core/parallel.h"
#include "fisher/cpu_square_sink.h"
#include "native/fisher/random_form.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

struct TiedCase {
  std::int64_t batch, positions, channels, rows;
  std::int64_t lowest = 0;  // ids are drawn from [lowest, rows)
};

class RandomTied {
 public:
  explicit RandomTied(const TiedCase& c)
      : input_(normals(c.batch * c.positions * c.channels, 1)),
        head_delta_(normals(c.batch * c.positions * c.rows, 2)),
        embedding_delta_(normals(c.batch * c.positions * c.channels, 3)) {
    const InputDraw draw = {static_cast<double>(c.lowest), static_cast<double>(c.rows), true};
    for (const float id : uniforms(c.batch * c.positions, 4, draw)) {
      ids_.push_back(static_cast<std::int32_t>(id));
    }
    head.grad_output = head_delta_.data(), head.input = input_.data();
    head.batch = c.batch;
    head.in_width = head.out_width = c.positions;
    head.in_channels = c.channels, head.out_channels = c.rows;
    embedding.grad_output = embedding_delta_.data(), embedding.ids = ids_.data();
    embedding.batch = c.batch, embedding.positions = c.positions;
    embedding.channels = c.channels, embedding.rows = c.rows;
  }
  RandomTied(const RandomTied&) = delete;
  RandomTied& operator=(const RandomTied&) = delete;

  [[nodiscard]] std::vector<double> fused() const {
    std::vector<double> sums(static_cast<std::size_t>(embedding.rows * embedding.channels), 0.25);
    accumulate_tied(head, embedding, sums.data());
    return sums;
  }

  [[nodiscard]] std::vector<double> naive() const {
    std::vector<double> sums(static_cast<std::size_t>(embedding.rows * embedding.channels), 0.25);
    for (std::int64_t n = 0; n < embedding.batch; ++n) {
      std::vector<double> gradient(sums.size());
      for (std::int64_t p = n * embedding.positions; p < (n + 1) * embedding.positions; ++p) {
        for (std::int64_t c = 0; c < embedding.channels; ++c) {
          for (std::int64_t v = 0; v < embedding.rows; ++v) {
            gradient[static_cast<std::size_t>(v * embedding.channels + c)] +=
                static_cast<double>(head.grad_output[p * embedding.rows + v]) *
                static_cast<double>(head.input[p * embedding.channels + c]);
          }
          const std::int32_t id = ids_[static_cast<std::size_t>(p)];
          if (id < 0) continue;
          gradient[static_cast<std::size_t>(id * embedding.channels + c)] +=
              static_cast<double>(embedding.grad_output[p * embedding.channels + c]);
        }
      }
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += gradient[i] * gradient[i];
    }
    return sums;
  }

  std::vector<std::int32_t>& ids() { return ids_; }
  ContractionForm head;
  ScatterForm embedding;

 private:
  std::vector<float> input_, head_delta_, embedding_delta_;
  std::vector<std::int32_t> ids_;
};

constexpr TiedCase kCases[] = {
    {1, 1, 1, 1}, {3, 5, 7, 4}, {2, 9, 33, 50}, {5, 6, 20, 3, -1}, {20, 17, 48, 90, -2}};

}  // namespace

TEST_CASE("tied embeddings: the fused kernel against the definition") {
  for (const TiedCase& c : kCases) {
    const RandomTied problem(c);
    const double error = relative_error(problem.fused(), problem.naive());
    CHECK_MESSAGE(error <= 2e-6, "batch ", c.batch, ", positions ", c.positions, ", channels ",
                  c.channels, ", rows ", c.rows, ": ", error);
  }
}

TEST_CASE("tied embeddings: the same bits on 1, 2 and 4 threads") {
  const int before = thread_count();
  for (const TiedCase& c : kCases) {
    const RandomTied problem(c);
    set_thread_count(1);
    const std::vector<double> one = problem.fused();
    for (const int threads : {2, 4}) {
      set_thread_count(threads);
      const std::vector<double> sums = problem.fused();
      CHECK_MESSAGE(std::memcmp(one.data(), sums.data(), one.size() * sizeof(double)) == 0,
                    "positions ", c.positions, ", ", threads,
                    " threads: ", relative_error(sums, one));
    }
  }
  set_thread_count(before);
}

TEST_CASE("tied embeddings: the sink takes the two uses in any order, and no other pair") {
  const RandomTied problem({3, 5, 7, 4});
  std::vector<double> sums(28, 0.25);
  const SquareProblem head = {"weight", problem.head};
  const SquareProblem embedding = {"weight", problem.embedding};
  CpuSquareSink sink;
  CHECK(sink.accumulate_shared(std::vector{embedding, head}, sums.data()));
  CHECK(sums == problem.fused());
  const std::vector<double> taken = sums;
  ContractionForm strided = problem.head;
  strided.stride_width = 2;
  CHECK_FALSE(sink.accumulate_shared(std::vector{head, head}, sums.data()));
  CHECK_FALSE(sink.accumulate_shared(std::vector{head}, sums.data()));
  CHECK_FALSE(sink.accumulate_shared(std::vector{head, embedding, embedding}, sums.data()));
  CHECK_FALSE(sink.accumulate_shared(std::vector<SquareProblem>{{"weight", strided}, embedding},
                                     sums.data()));
  CHECK(sums == taken);
}

TEST_CASE("tied embeddings: an id beyond the rows is refused before anything is added") {
  RandomTied problem({3, 5, 7, 4});
  problem.ids()[14] = 4;
  std::vector<double> sums(28, 0.25);
  CHECK_THROWS_AS(accumulate_tied(problem.head, problem.embedding, sums.data()), Error);
  CHECK(sums == std::vector<double>(28, 0.25));
}
