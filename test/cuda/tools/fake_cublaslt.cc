// A stand-in for libcublasLt in tests without a GPU: the functions that the backend calls, with the
// types of NVIDIA's headers and their column-major meaning, computing at once on the emulated
// device's memory, which is the host's. It checks every call, and misbehaves when told to.
//
// fake_cublaslt_behave(NAME) chooses: plain, fail-create, no-algorithm, large, fail-run.
// fake_cublaslt_count(NAME) says how often a function was called; "complaints" are calls that were
// wrong, "live" what was created and not destroyed.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

using Status = int;
constexpr Status kSuccess = 0;
constexpr Status kNotInitialized = 1;
constexpr Status kInvalidValue = 7;
constexpr Status kExecutionFailed = 13;
constexpr Status kNotSupported = 15;

constexpr int kRealF32 = 0;
constexpr int kF32 = 68, kBf16 = 75, kTf32 = 77;  // cublasComputeType_t
constexpr std::uint32_t kPlainEpilogue = 1, kBiasEpilogue = 4;
constexpr std::uint64_t kWorkspace = 4096;

// A handle, an operation, a layout or a preference.
struct Object {
  enum Kind { kHandle, kOperation, kLayout, kPreference };
  Kind kind = kHandle;
  // An operation.
  int compute = 0;
  std::array<std::int32_t, 2> transposed = {0, 0};
  std::uint32_t epilogue = kPlainEpilogue;
  const float* bias = nullptr;
  // A layout: column-major, as stored.
  std::int64_t rows = 0, columns = 0, leading = 0, stride = 0;
  std::int32_t batch = 1;
  // A preference: of A, B, C and D.
  std::uint64_t most_workspace = 0;
  std::array<std::uint32_t, 4> alignment = {256, 256, 256, 256};
};

struct State {
  std::string behaviour = "plain";
  std::map<std::string, std::int64_t> calls;
  std::map<const Object*, std::unique_ptr<Object>> live;
};
// Never destroyed: devices of the tests are closed at the very end.
State& state() {
  static State& all = *new State;
  return all;
}

bool behaves(const char* as) { return state().behaviour == as; }

Status complain(const char* about) {
  std::fprintf(stderr, "fake cuBLASLt: %s\n", about);
  ++state().calls["complaints"];
  return kInvalidValue;
}

Object* create(const char* name, Object** into, Object::Kind kind) {
  ++state().calls[name];
  auto made = std::make_unique<Object>();
  made->kind = kind;
  *into = made.get();
  state().live.emplace(*into, std::move(made));
  return *into;
}

bool is(const Object* object, Object::Kind kind) {
  return object != nullptr && state().live.contains(object) && object->kind == kind;
}

Status destroy(const char* name, const Object* object, Object::Kind kind) {
  ++state().calls[name];
  if (!is(object, kind)) return complain("what is destroyed does not exist");
  state().live.erase(object);
  return kSuccess;
}

// Into `to`, if the value has its size.
template <typename T>
Status take(T& to, const void* from, std::size_t bytes) {
  if (from == nullptr || bytes != sizeof(T)) return complain("an attribute of another size");
  std::memcpy(&to, from, sizeof(T));
  return kSuccess;
}

struct Algorithm {
  std::uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  std::size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

// D = alpha · op(A) · op(B) + beta · C + bias: what the objects say of it.
struct Problem {
  const Object &operation, &a, &b, &c;

  [[nodiscard]] std::int64_t m() const { return c.rows; }
  [[nodiscard]] std::int64_t n() const { return c.columns; }
  [[nodiscard]] std::int64_t k() const { return operation.transposed[0] ? a.rows : a.columns; }
};

const char* wrong(const Object* handle, const Object* operation, const Object* a, const Object* b,
                  const Object* c, const Object* d) {
  if (!is(handle, Object::kHandle)) return "no handle";
  if (!is(operation, Object::kOperation)) return "no operation";
  for (const Object* const layout : {a, b, c, d}) {
    if (!is(layout, Object::kLayout)) return "no layout";
    if (layout->leading < layout->rows) return "a leading dimension below the rows";
    if (layout->batch != d->batch) return "batches differ";
  }
  if (c->rows != d->rows || c->columns != d->columns || c->leading != d->leading) return "C and D";
  const Problem p{*operation, *a, *b, *c};
  const bool ta = operation->transposed[0] != 0;
  const bool tb = operation->transposed[1] != 0;
  if ((ta ? a->columns : a->rows) != p.m() || (tb ? b->rows : b->columns) != p.n() ||
      (tb ? b->columns : b->rows) != p.k()) {
    return "sizes do not fit";
  }
  if (operation->epilogue == kBiasEpilogue && operation->bias == nullptr) return "no bias";
  return nullptr;
}

// What the arithmetic reads, to nearest even.
double read(float value, int compute) {
  if (compute == kF32 || !std::isfinite(value)) return static_cast<double>(value);
  const unsigned dropped = compute == kTf32 ? 13 : 16;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t half = (1U << (dropped - 1)) - 1;
  bits = (bits + half + (bits >> dropped & 1U)) & ~((1U << dropped) - 1);
  std::memcpy(&value, &bits, sizeof value);
  return static_cast<double>(value);
}

bool aligned(const void* data, const Object& layout, std::uint64_t to) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  const auto stride = static_cast<std::uint64_t>(layout.stride) * sizeof(float);
  return data != nullptr && address % to == 0 && (layout.batch == 1 || stride % to == 0);
}

void multiply(const Problem& p, float alpha, const float* a, const float* b, float beta,
              const float* c, float* d) {
  for (std::int64_t row = 0; row < p.m(); ++row) {
    for (std::int64_t column = 0; column < p.n(); ++column) {
      double sum = 0;
      for (std::int64_t i = 0; i < p.k(); ++i) {
        const std::int64_t at_a =
            p.operation.transposed[0] ? i + row * p.a.leading : row + i * p.a.leading;
        const std::int64_t at_b =
            p.operation.transposed[1] ? column + i * p.b.leading : i + column * p.b.leading;
        sum += read(a[at_a], p.operation.compute) * read(b[at_b], p.operation.compute);
      }
      const std::int64_t at = row + column * p.c.leading;
      float value = alpha * static_cast<float>(sum);
      if (beta != 0.0F) value += beta * c[at];
      if (p.operation.epilogue == kBiasEpilogue) value += p.operation.bias[row];
      d[at] = value;
    }
  }
}

}  // namespace

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))

FAKE_EXPORT void fake_cublaslt_behave(const char* as) {
  state().behaviour = as;
  state().calls.clear();
}
FAKE_EXPORT std::int64_t fake_cublaslt_count(const char* name) {
  if (std::string(name) == "live") return static_cast<std::int64_t>(state().live.size());
  return state().calls[name];
}

FAKE_EXPORT std::size_t cublasLtGetVersion() { return 130203; }
FAKE_EXPORT Status cublasLtCreate(Object** into) {
  if (behaves("fail-create")) return kNotInitialized;
  create(__func__, into, Object::kHandle);
  return kSuccess;
}
FAKE_EXPORT Status cublasLtDestroy(Object* handle) {
  return destroy(__func__, handle, Object::kHandle);
}

FAKE_EXPORT Status cublasLtMatmulDescCreate(Object** into, int compute, int scale) {
  if (compute != kF32 && compute != kBf16 && compute != kTf32) return complain("compute type");
  if (scale != kRealF32) return complain("alpha and beta that are not f32");
  create(__func__, into, Object::kOperation)->compute = compute;
  return kSuccess;
}
FAKE_EXPORT Status cublasLtMatmulDescDestroy(Object* operation) {
  return destroy(__func__, operation, Object::kOperation);
}
FAKE_EXPORT Status cublasLtMatmulDescSetAttribute(Object* operation, int attribute,
                                                  const void* value, std::size_t bytes) {
  ++state().calls[__func__];
  if (!is(operation, Object::kOperation)) return complain("no operation");
  switch (attribute) {
    case 3:
    case 4:
      return take(operation->transposed[static_cast<std::size_t>(attribute - 3)], value, bytes);
    case 7:
      return take(operation->epilogue, value, bytes);
    case 8:
      return take(operation->bias, value, bytes);
    default:
      return complain("an attribute of operations that is not known");
  }
}

FAKE_EXPORT Status cublasLtMatrixLayoutCreate(Object** into, int type, std::uint64_t rows,
                                              std::uint64_t columns, std::int64_t leading) {
  if (type != kRealF32 || rows == 0 || columns == 0) return complain("not f32, or empty");
  Object* const made = create(__func__, into, Object::kLayout);
  made->rows = static_cast<std::int64_t>(rows);
  made->columns = static_cast<std::int64_t>(columns);
  made->leading = leading;
  return kSuccess;
}
FAKE_EXPORT Status cublasLtMatrixLayoutDestroy(Object* layout) {
  return destroy(__func__, layout, Object::kLayout);
}
FAKE_EXPORT Status cublasLtMatrixLayoutSetAttribute(Object* layout, int attribute,
                                                    const void* value, std::size_t bytes) {
  ++state().calls[__func__];
  if (!is(layout, Object::kLayout)) return complain("no layout");
  if (attribute == 5) return take(layout->batch, value, bytes);
  if (attribute == 6) return take(layout->stride, value, bytes);
  return complain("an attribute of layouts that is not known");
}

FAKE_EXPORT Status cublasLtMatmulPreferenceCreate(Object** into) {
  create(__func__, into, Object::kPreference);
  return kSuccess;
}
FAKE_EXPORT Status cublasLtMatmulPreferenceDestroy(Object* preference) {
  return destroy(__func__, preference, Object::kPreference);
}
FAKE_EXPORT Status cublasLtMatmulPreferenceSetAttribute(Object* preference, int attribute,
                                                        const void* value, std::size_t bytes) {
  ++state().calls[__func__];
  if (!is(preference, Object::kPreference)) return complain("no preference");
  if (attribute == 1) return take(preference->most_workspace, value, bytes);
  if (attribute < 5 || attribute > 8) return complain("a preference that is not known");
  return take(preference->alignment[static_cast<std::size_t>(attribute - 5)], value, bytes);
}

// Its algorithm carries the alignments that it was promised.
FAKE_EXPORT Status cublasLtMatmulAlgoGetHeuristic(Object* handle, Object* operation, Object* a,
                                                  Object* b, Object* c, Object* d,
                                                  Object* preference, int wanted,
                                                  HeuristicResult* into, int* found) {
  ++state().calls[__func__];
  if (const char* const fault = wrong(handle, operation, a, b, c, d)) return complain(fault);
  if (!is(preference, Object::kPreference) || wanted != 1) return complain("no preference");
  if (preference->most_workspace < kWorkspace) return complain("no workspace");
  *found = behaves("no-algorithm") ? 0 : 1;
  if (*found == 0) return kNotSupported;
  *into = {};
  for (std::size_t i = 0; i < 4; ++i) into->algorithm.data[i] = preference->alignment[i];
  into->workspace_bytes = behaves("large") ? preference->most_workspace + 1 : kWorkspace;
  return kSuccess;
}

FAKE_EXPORT Status cublasLtMatmul(Object* handle, Object* operation, const void* alpha,
                                  const void* a, Object* a_layout, const void* b, Object* b_layout,
                                  const void* beta, const void* c, Object* c_layout, void* d,
                                  Object* d_layout, const Algorithm* algorithm, void* workspace,
                                  std::size_t workspace_bytes, void* stream) {
  ++state().calls[__func__];
  if (const char* const fault = wrong(handle, operation, a_layout, b_layout, c_layout, d_layout)) {
    return complain(fault);
  }
  if (behaves("fail-run")) return kExecutionFailed;
  if (stream == nullptr || algorithm == nullptr) return complain("no stream or no algorithm");
  if (workspace == nullptr || workspace_bytes < kWorkspace) return complain("a small workspace");
  if (!aligned(a, *a_layout, algorithm->data[0]) || !aligned(b, *b_layout, algorithm->data[1]) ||
      !aligned(c, *c_layout, algorithm->data[2]) || !aligned(d, *d_layout, algorithm->data[3])) {
    return complain("matrices less aligned than was said");
  }
  std::memset(workspace, 0xFF, workspace_bytes);
  const Problem problem{*operation, *a_layout, *b_layout, *c_layout};
  for (std::int64_t z = 0; z < d_layout->batch; ++z) {
    multiply(problem, *static_cast<const float*>(alpha),
             static_cast<const float*>(a) + z * a_layout->stride,
             static_cast<const float*>(b) + z * b_layout->stride, *static_cast<const float*>(beta),
             static_cast<const float*>(c) + z * c_layout->stride,
             static_cast<float*>(d) + z * d_layout->stride);
  }
  return kSuccess;
}
