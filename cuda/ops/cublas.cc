// cuBLASLt behind gemm.h. It was written against NVIDIA's headers and NOT RUN on a GPU; in tests
// test/cuda/tools/fake_cublaslt.cc stands in for it.
//
// Prototypes, enumerators and struct sizes below are those of cublasLt.h and cublas_api.h, which
// are the same in the majors 11 to 13 as far as used here.
// Layout: cuBLASLt is column-major. A row-major (r, c) matrix with row stride s is a column-major
// (c, r) one with leading dimension s, so that C = op(A) · op(B) is asked for as
// Cᵀ = op(B)ᵀ · op(A)ᵀ: operands swapped, transpositions as they are, m and n exchanged. The bias
// runs along the rows of Cᵀ, as the library's epilogue wants it.
// Workspace: kWorkspaceBytes at most, Backend::product_scratch. Deterministic: for one version of
// the library and one device, as its documentation says for work on one stream.
#include "ops/cublas.h"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>

#include "common/backend.h"

namespace fishermask::cuda {

namespace {

// What NVIDIA advises for devices since compute capability 9.0.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20U;

using Status = int;  // cublasStatus_t
constexpr Status kSuccess = 0;

using Handle = struct CublasLtContext*;  // cublasLtHandle_t
using OperationHandle = struct CublasLtMatmulDesc*;
using LayoutHandle = struct CublasLtMatrixLayout*;
using PreferenceHandle = struct CublasLtMatmulPreference*;

constexpr int kRealF32 = 0;       // CUDA_R_32F
constexpr int kTransposed = 1;    // CUBLAS_OP_T; CUBLAS_OP_N is 0
constexpr int kEpilogueBias = 4;  // CUBLASLT_EPILOGUE_BIAS

enum OperationAttribute : int {  // cublasLtMatmulDescAttributes_t
  kTransposeA = 3,               // int32
  kTransposeB = 4,               // int32
  kEpilogue = 7,                 // uint32
  kBiasPointer = 8               // void*
};
enum LayoutAttribute : int {  // cublasLtMatrixLayoutAttribute_t
  kBatchCount = 5,            // int32
  kBatchStride = 6            // int64, in elements
};
enum PreferenceAttribute : int {  // cublasLtMatmulPreferenceAttributes_t
  kMostWorkspace = 1,             // uint64
  kAlignmentA = 5,                // uint32, in bytes
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8
};

// cublasComputeType_t
int compute_type(Precision precision) {
  switch (precision) {
    case Precision::kTf32:
      return 77;  // CUBLAS_COMPUTE_32F_FAST_TF32
    case Precision::kBf16:
      return 75;  // CUBLAS_COMPUTE_32F_FAST_16BF
    case Precision::kF32:
      break;
  }
  return 68;  // CUBLAS_COMPUTE_32F
}

struct Algorithm {  // cublasLtMatmulAlgo_t
  std::uint64_t data[8];
};
struct HeuristicResult {  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  std::size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96);

struct Library {
  std::size_t (*version)() = nullptr;
  Status (*create)(Handle*) = nullptr;
  Status (*destroy)(Handle) = nullptr;
  Status (*operation_create)(OperationHandle*, int compute, int scale) = nullptr;
  Status (*operation_destroy)(OperationHandle) = nullptr;
  Status (*operation_set)(OperationHandle, int attribute, const void*, std::size_t) = nullptr;
  Status (*layout_create)(LayoutHandle*, int type, std::uint64_t rows, std::uint64_t columns,
                          std::int64_t leading) = nullptr;
  Status (*layout_destroy)(LayoutHandle) = nullptr;
  Status (*layout_set)(LayoutHandle, int attribute, const void*, std::size_t) = nullptr;
  Status (*preference_create)(PreferenceHandle*) = nullptr;
  Status (*preference_destroy)(PreferenceHandle) = nullptr;
  Status (*preference_set)(PreferenceHandle, int attribute, const void*, std::size_t) = nullptr;
  Status (*heuristic)(Handle, OperationHandle, LayoutHandle a, LayoutHandle b, LayoutHandle c,
                      LayoutHandle d, PreferenceHandle, int wanted, HeuristicResult*,
                      int* found) = nullptr;
  Status (*matmul)(Handle, OperationHandle, const void* alpha, const void* a, LayoutHandle,
                   const void* b, LayoutHandle, const void* beta, const void* c, LayoutHandle,
                   void* d, LayoutHandle, const Algorithm*, void* workspace, std::size_t,
                   cudaStream_t) = nullptr;
};

// Not unloaded: its own exit handlers must find it.
constexpr int kMode = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;

void* open_library() {
  const char* const chosen = std::getenv("FISHERMASK_CUBLASLT");
  if (chosen != nullptr && *chosen != '\0') {
    return std::string(chosen) == "off" ? nullptr : dlopen(chosen, kMode);
  }
#ifndef FM_EMULATION
  for (const char* const name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11"}) {
    if (void* const library = dlopen(name, kMode)) return library;
  }
#endif
  return nullptr;
}

template <typename Function>
bool find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

std::optional<Library> load() {
  void* const from = open_library();
  Library library;
  if (from == nullptr || !find(from, "cublasLtGetVersion", library.version) ||
      !find(from, "cublasLtCreate", library.create) ||
      !find(from, "cublasLtDestroy", library.destroy) ||
      !find(from, "cublasLtMatmulDescCreate", library.operation_create) ||
      !find(from, "cublasLtMatmulDescDestroy", library.operation_destroy) ||
      !find(from, "cublasLtMatmulDescSetAttribute", library.operation_set) ||
      !find(from, "cublasLtMatrixLayoutCreate", library.layout_create) ||
      !find(from, "cublasLtMatrixLayoutDestroy", library.layout_destroy) ||
      !find(from, "cublasLtMatrixLayoutSetAttribute", library.layout_set) ||
      !find(from, "cublasLtMatmulPreferenceCreate", library.preference_create) ||
      !find(from, "cublasLtMatmulPreferenceDestroy", library.preference_destroy) ||
      !find(from, "cublasLtMatmulPreferenceSetAttribute", library.preference_set) ||
      !find(from, "cublasLtMatmulAlgoGetHeuristic", library.heuristic) ||
      !find(from, "cublasLtMatmul", library.matmul)) {
    return std::nullopt;
  }
  return library;
}

using Operation = std::unique_ptr<CublasLtMatmulDesc, Status (*)(OperationHandle)>;
using Layout = std::unique_ptr<CublasLtMatrixLayout, Status (*)(LayoutHandle)>;
using Preference = std::unique_ptr<CublasLtMatmulPreference, Status (*)(PreferenceHandle)>;

template <typename Setter, typename Of, typename Value>
bool set(Setter setter, const Of& of, int attribute, const Value& value) {
  return setter(of.get(), attribute, &value, sizeof value) == kSuccess;
}

Operation operation_of(const Library& library, const GemmCall& call, Precision precision) {
  OperationHandle raw = nullptr;
  if (library.operation_create(&raw, compute_type(precision), kRealF32) != kSuccess) raw = nullptr;
  Operation made(raw, library.operation_destroy);
  if (made == nullptr) return made;
  const auto set_to = library.operation_set;
  // Swapped: the library's A is our B.
  bool good = true;
  if (call.b.transposed) good = set(set_to, made, kTransposeA, std::int32_t{kTransposed});
  if (call.a.transposed) good = good && set(set_to, made, kTransposeB, std::int32_t{kTransposed});
  if (call.bias != nullptr) {
    good = good && set(set_to, made, kEpilogue, std::uint32_t{kEpilogueBias}) &&
           set(set_to, made, kBiasPointer, call.bias);
  }
  if (!good) made.reset();
  return made;
}

// A row-major matrix (rows, columns) as the column-major one of its transpose.
Layout layout_of(const Library& library, std::int64_t rows, std::int64_t columns,
                 std::int64_t row_stride, std::int64_t batch, std::int64_t batch_stride) {
  LayoutHandle raw = nullptr;
  if (library.layout_create(&raw, kRealF32, static_cast<std::uint64_t>(columns),
                            static_cast<std::uint64_t>(rows), row_stride) != kSuccess) {
    raw = nullptr;
  }
  Layout made(raw, library.layout_destroy);
  if (made != nullptr && batch > 1 &&
      !(set(library.layout_set, made, kBatchCount, static_cast<std::int32_t>(batch)) &&
        set(library.layout_set, made, kBatchStride, batch_stride))) {
    made.reset();
  }
  return made;
}

// The largest power of two, 256 at most, that divides the address and the distance of the batch's
// matrices.
std::uint32_t alignment_of(const float* data, std::int64_t batch_stride) {
  const auto both = reinterpret_cast<std::uintptr_t>(data) |
                    static_cast<std::uintptr_t>(batch_stride) * sizeof(float);
  std::uint32_t alignment = 4;
  while (alignment < 256 && both % (2 * alignment) == 0) alignment *= 2;
  return alignment;
}

Preference preference_of(const Library& library, const GemmCall& call) {
  PreferenceHandle raw = nullptr;
  if (library.preference_create(&raw) != kSuccess) raw = nullptr;
  Preference made(raw, library.preference_destroy);
  if (made == nullptr) return made;
  const auto set_to = library.preference_set;
  const std::uint32_t c = alignment_of(call.c, call.c_batch_stride);
  if (!set(set_to, made, kMostWorkspace, std::uint64_t{kWorkspaceBytes}) ||
      !set(set_to, made, kAlignmentA, alignment_of(call.b.data, call.b.batch_stride)) ||
      !set(set_to, made, kAlignmentB, alignment_of(call.a.data, call.a.batch_stride)) ||
      !set(set_to, made, kAlignmentC, c) || !set(set_to, made, kAlignmentD, c)) {
    made.reset();
  }
  return made;
}

bool suits(const GemmCall& call) {
  constexpr std::int64_t kLargestBatch = (std::int64_t{1} << 31) - 1;
  return call.tile == GemmTile::kChosen && call.splits == 0 && call.terms == 1 && call.k > 0 &&
         call.a.offsets == nullptr && call.b.offsets == nullptr && call.batch <= kLargestBatch;
}

}  // namespace

struct Cublas::State {
  explicit State(const Library& found) : library(found), handle(nullptr, found.destroy) {}
  Library library;
  std::unique_ptr<CublasLtContext, Status (*)(Handle)> handle;
  bool tried = false;
};

Cublas::Cublas(std::unique_ptr<State> state) : state_(std::move(state)) {}
Cublas::~Cublas() = default;

std::unique_ptr<Cublas> Cublas::open() {
  const std::optional<Library> library = load();
  if (!library) return nullptr;
  return std::unique_ptr<Cublas>(new Cublas(std::make_unique<State>(*library)));
}

std::string Cublas::installed() {
  const std::optional<Library> library = load();
  if (!library) return {};
  const std::size_t version = library->version();  // major · 10000 + minor · 100 + patch
  return "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) +
         "." + std::to_string(version % 100);
}

bool Cublas::ready() {
  if (state_->tried) return state_->handle != nullptr;
  state_->tried = true;
  Handle raw = nullptr;
  if (state_->library.create(&raw) != kSuccess) raw = nullptr;
  state_->handle.reset(raw);
  return raw != nullptr;
}

bool Cublas::multiply(Backend& backend, const GemmCall& call) const {
  const Handle handle = state_->handle.get();
  const Library& library = state_->library;
  if (handle == nullptr || !suits(call)) return false;
  const auto stored = [&](const GemmOperand& x, std::int64_t rows, std::int64_t columns) {
    return layout_of(library, x.transposed ? columns : rows, x.transposed ? rows : columns,
                     x.row_stride, call.batch, x.batch_stride);
  };
  const Operation operation = operation_of(library, call, backend.matmul_precision());
  const Layout a = stored(call.a, call.m, call.k);
  const Layout b = stored(call.b, call.k, call.n);
  const Layout c =
      layout_of(library, call.m, call.n, call.c_row_stride, call.batch, call.c_batch_stride);
  const Preference preference = preference_of(library, call);
  if (!operation || !a || !b || !c || !preference) return false;
  HeuristicResult best{};
  int found = 0;
  if (library.heuristic(handle, operation.get(), b.get(), a.get(), c.get(), c.get(),
                        preference.get(), 1, &best, &found) != kSuccess ||
      found == 0 || best.state != kSuccess || best.workspace_bytes > kWorkspaceBytes) {
    return false;
  }
  std::byte* const workspace =
      best.workspace_bytes > 0
          ? backend.product_scratch(static_cast<std::int64_t>(best.workspace_bytes))
          : nullptr;
  // A call that is refused has written nothing.
  return library.matmul(handle, operation.get(), &call.alpha, call.b.data, b.get(), call.a.data,
                        a.get(), &call.beta, call.c, c.get(), call.c, c.get(), &best.algorithm,
                        workspace, best.workspace_bytes, backend.stream()) == kSuccess;
}

}  // namespace fishermask::cuda
