// mask_top_k on the device: exactly the k units of largest score over all tensors become 0, with
// the semantics to the bit of binding/mask/top_k.h.
// Algorithm: 1. a stratified sample places two marks around the k-th unit (marks.cu);
//            2. one pass scores every unit (scored.cu): what comes before the marks is masked for
//               certain, what lies between them is a candidate; nothing is changed yet, so that a
//               NaN or a shortage of memory leaves the weights alone;
//            3. the candidates decide (decide.cu);
//            4. the masked weights become 0 (apply.cu), and the host waits for the first time.
//            Where the sample misled, three passes of histograms find the threshold's key, and one
//            more the bits (5 passes over the inputs instead of 1); the host waits once more.
// Workspace: per unit 2 bits and, for candidates, 4/8 byte + 512 KiB; 12 bytes per strip (1024
//            units of one element). All taken before anything is changed.
// Deterministic: yes. Bound by memory.
// Errors:    ARGUMENT, NON_FINITE, OUT_OF_MEMORY; no weight is changed then.
#include <algorithm>
#include <cstring>

#include "common/backend.h"
#include "common/check.h"
#include "common/parts.h"
#include "core/error.h"
#include "core/nan_report.h"
#include "mask/kernels.h"
#include "mask/sample_plan.h"

namespace fishermask::cuda {
namespace {

struct Needs {
  bool forget = false, remain = false, gradient = false;
};

// Errors: ARGUMENT. The messages of a program's parts are the engine's: this only keeps a bad one
// from the kernels.
Needs check_program(const std::vector<ScoreInstruction>& program) {
  Needs needs;
  int depth = 0;
  bool fits = true;
  for (const ScoreInstruction& instruction : program) {
    fits = fits && static_cast<int>(instruction.op) < kScoreOpCount &&
           depth >= operand_count(instruction.op);
    depth += 1 - operand_count(instruction.op);
    fits = fits && depth <= kMostStackDepth;
    needs.forget |= instruction.op == ScoreOp::kForgetFisher;
    needs.remain |= instruction.op == ScoreOp::kRemainFisher;
    needs.gradient |= instruction.op == ScoreOp::kForgetGradient;
  }
  FM_CHECK(fits && depth == 1, ARGUMENT,
           "Expected a program that leaves one value for the score but received ", program.size(),
           " instructions that do not");
  return needs;
}

void check_tensor(const DeviceMaskTensor& tensor, const Needs& needs) {
  FM_CHECK(tensor.units >= 0 && tensor.elements_per_unit >= 1, ARGUMENT,
           "Expected 0 or more units of 1 or more elements for tensor ", tensor.name,
           " but received ", tensor.units, " of ", tensor.elements_per_unit);
  if (tensor.units == 0) return;  // an empty tensor may well have no memory
  const auto check_input = [&tensor](bool needed, const float* data, const char* what) {
    FM_CHECK(!needed || data != nullptr, ARGUMENT, "Expected ", what, " for tensor ", tensor.name,
             " but received none");
  };
  check_input(true, tensor.weight, "weight");
  check_input(needs.forget, tensor.forget_sums, "forgetFisher");
  check_input(needs.remain, tensor.remain_sums, "remainFisher");
  check_input(needs.gradient, tensor.forget_gradient_sums, "forgetGradient");
}

std::int64_t words_of(std::int64_t units) { return (units + 31) / 32; }

// The tensors' words and strips, in flat order.
struct Plan {
  std::vector<MaskTensor> tensors;
  bool singles = true;  // all units are of one element
  std::int64_t units = 0, words = 0, strips = 0;

  explicit Plan(std::span<const DeviceMaskTensor> given) {
    for (const DeviceMaskTensor& one : given) {
      MaskTensor tensor;
      tensor.weight = one.weight;
      tensor.forget = one.forget_sums;
      tensor.remain = one.remain_sums;
      tensor.gradient = one.forget_gradient_sums;
      tensor.previous = one.previous_keep;
      tensor.units = one.units;
      tensor.elements = one.elements_per_unit;
      tensor.first_unit = one.first_unit;
      tensor.first_word = words;
      tensor.first_strip = strips;
      tensor.words_per_strip = words_per_strip(one.elements_per_unit);
      const std::int64_t own = words_of(one.units);
      singles = singles && (one.units == 0 || one.elements_per_unit == 1);
      units += one.units;
      words += own;
      strips += (own + tensor.words_per_strip - 1) / tensor.words_per_strip;
      tensors.push_back(tensor);
    }
  }
};

// One piece of device memory cut into parts.
class Cutter {
 public:
  template <typename T>
  std::int64_t part(std::int64_t count) {
    const std::int64_t first = bytes_;
    bytes_ += (count * static_cast<std::int64_t>(sizeof(T)) + 255) / 256 * 256;
    return first;
  }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  std::int64_t bytes_ = 0;
};

class Masking {
 public:
  Masking(Backend& backend, const DeviceMaskRequest& request)
      : backend_(backend),
        request_(request),
        plan_(request.tensors),
        kernels_(scored_kernels(request.program)) {
    take_result();
    take_work();
    take_candidates();
    fill();
  }

  DeviceMaskResult run() {
    mark();
    kernels_.scan(stream(), arguments_, workspace_, true);
    judge_candidates(stream(), workspace_);
    for (const KeyDigit digit : kKeyDigits) {
      count_candidates(stream(), workspace_, digit);
      take_digit(stream(), workspace_, digit);
    }
    count_ties(stream(), workspace_);
    find_last_strip(stream(), workspace_, workspace_.strip_ties);
    apply_mask(stream(), workspace_, true);
    read();
    int passes = 1;
    if (state().decided == 0) {
      passes += find_exactly();
      read();
    }
    return result(passes);
  }

 private:
  // What the host reads in the end lies together.
  void take_result() {
    Cutter cut;
    const std::int64_t state = cut.part<MaskState>(1);  // first
    counts_at_ = cut.part<MaskCounts>(tensor_count());
    keep_at_ = cut.part<std::uint32_t>(plan_.words);
    result_ = backend_.take(cut.bytes(), "the keep-masks of a masking");
    workspace_.state = at<MaskState>(result_, state);
    workspace_.counts = at<MaskCounts>(result_, counts_at_);
    workspace_.keep = at<std::uint32_t>(result_, keep_at_);
  }

  void take_work() {
    Cutter cut;
    const std::int64_t table = cut.part<MaskTensor>(tensor_count());
    const std::int64_t program =
        cut.part<ScoreInstruction>(static_cast<std::int64_t>(request_.program.size()));
    const std::int64_t inside = cut.part<std::uint32_t>(plan_.words);
    const std::int64_t first = cut.part<std::uint32_t>(plan_.strips);
    const std::int64_t count = cut.part<std::uint32_t>(plan_.strips);
    const std::int64_t ties = cut.part<std::uint32_t>(plan_.strips);
    const std::int64_t histogram = cut.part<Counter>(kDigitBuckets);
    const std::int64_t sample = cut.part<std::uint64_t>(kMostStrata * 32);
    work_ = backend_.take(cut.bytes(), "the workspace of a masking");
    table_ = at<MaskTensor>(work_, table);
    program_ = at<ScoreInstruction>(work_, program);
    workspace_.table = {table_, static_cast<int>(tensor_count()), plan_.singles, plan_.strips};
    workspace_.inside = at<std::uint32_t>(work_, inside);
    workspace_.strip_first = at<std::uint32_t>(work_, first);
    workspace_.strip_count = at<std::uint32_t>(work_, count);
    workspace_.strip_ties = at<std::uint32_t>(work_, ties);
    workspace_.histogram = at<Counter>(work_, histogram);
    workspace_.sample = at<std::uint64_t>(work_, sample);
    workspace_.words = plan_.words;
  }

  void take_candidates() {
    constexpr std::int64_t kMost = 0xFFFFFFFF;  // 32 bits count them
    const std::int64_t capacity =
        std::min({plan_.units, kLeastCandidates + plan_.units / kCandidateDivisor, kMost});
    candidates_ = backend_.take(capacity * static_cast<std::int64_t>(sizeof(std::uint32_t)),
                                "the candidates of a masking");
    workspace_.candidates = at<std::uint32_t>(candidates_, 0);
    workspace_.capacity = capacity;
  }

  template <typename T>
  static T* at(const std::shared_ptr<std::byte>& memory, std::int64_t byte) {
    return reinterpret_cast<T*>(memory.get() + byte);
  }
  [[nodiscard]] std::int64_t tensor_count() const {
    return static_cast<std::int64_t>(plan_.tensors.size());
  }
  [[nodiscard]] cudaStream_t stream() const { return backend_.stream(); }

  template <typename T>
  void upload(T* to, const T* from, std::size_t count) {
    backend_.from_host(to, from, static_cast<std::int64_t>(count * sizeof(T)));
  }

  void fill() {
    arguments_.forget_count = request_.forget_count;
    arguments_.remain_count = request_.remain_count;
    arguments_.key = request_.key;
    arguments_.instruction_count = static_cast<int>(request_.program.size());
    if (kernels_.fused) {
      for (std::size_t i = 0; i < request_.program.size(); ++i) {
        arguments_.constants[i] = request_.program[i].value;
      }
    }
    arguments_.instructions = program_;
    upload(program_, request_.program.data(), request_.program.size());
    upload(table_, plan_.tensors.data(), plan_.tensors.size());
    FM_CUDA(
        cudaMemsetAsync(workspace_.counts, 0, plan_.tensors.size() * sizeof(MaskCounts), stream()));
    FM_CUDA(cudaMemsetAsync(workspace_.histogram, 0, kDigitBuckets * sizeof(Counter), stream()));
  }

  // Marks that hold every unit, or none, unless a sample says better.
  void mark() {
    MaskState initial;
    initial.asked = static_cast<Counter>(request_.k);
    if (request_.k == 0) initial.marks.low = kBeforeAll;
    upload(workspace_.state, &initial, 1);
    if (request_.k == 0 || plan_.units <= kLeastSampled) return;
    const int strata = sample_strata(plan_.words);
    kernels_.draw_sample(stream(), arguments_, workspace_, strata);
    place_marks(stream(), workspace_, strata,
                static_cast<double>(request_.k) / static_cast<double>(plan_.units));
  }

  // Returns the passes that it took.
  int find_exactly() {
    begin_exact(stream(), workspace_);
    for (const KeyDigit digit : kKeyDigits) {
      kernels_.count_keys(stream(), arguments_, workspace_, digit,
                          backend_.device_info().processors);
      take_digit(stream(), workspace_, digit);
    }
    mark_threshold(stream(), workspace_);
    kernels_.scan(stream(), arguments_, workspace_, false);
    find_last_strip(stream(), workspace_, workspace_.strip_count);
    apply_mask(stream(), workspace_, false);
    return static_cast<int>(std::size(kKeyDigits)) + 1;
  }

  // Waits, once. Errors: NON_FINITE.
  void read() {
    read_keep();
    host_.resize(static_cast<std::size_t>(keep_at_));
    backend_.to_host(host_.data(), result_.get(), keep_at_);
    if (state().nan_count == 0) return;
    NanReport report;
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      report.add(request_.tensors[t].name, static_cast<std::int64_t>(counts(t).nan_count));
    }
    report.fail_if_any();
  }
  // Straight into what the caller gets, whose memory is taken while the device is at work.
  void read_keep() {
    keep_.resize(plan_.tensors.size());
    if (!request_.read_keep) return;
    for (std::size_t t = 0; t < keep_.size(); ++t) {
      keep_[t].resize(static_cast<std::size_t>((plan_.tensors[t].units + 7) / 8));
      if (keep_[t].empty()) continue;
      const std::byte* const first = result_.get() + keep_at_ + plan_.tensors[t].first_word * 4;
      FM_CUDA(cudaMemcpyAsync(keep_[t].data(), first, keep_[t].size(), cudaMemcpyDeviceToHost,
                              stream()));
    }
  }
  template <typename T>
  [[nodiscard]] T host_value(std::int64_t byte) const {
    T value;
    std::memcpy(&value, host_.data() + byte, sizeof(T));
    return value;
  }
  [[nodiscard]] MaskState state() const { return host_value<MaskState>(0); }
  [[nodiscard]] MaskCounts counts(std::size_t tensor) const {
    return host_value<MaskCounts>(counts_at_ +
                                  static_cast<std::int64_t>(tensor * sizeof(MaskCounts)));
  }

  [[nodiscard]] DeviceMaskResult result(int passes) {
    const MaskState last = state();
    DeviceMaskResult result;
    result.eligible = static_cast<std::int64_t>(last.eligible);
    result.total_masked = static_cast<std::int64_t>(last.masked);
    if (last.masked > 0) result.threshold = score_of_key(last.threshold);
    result.passes = passes;
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      result.masked.push_back(static_cast<std::int64_t>(counts(t).masked));
    }
    result.keep = std::move(keep_);
    return result;
  }

  Backend& backend_;
  const DeviceMaskRequest& request_;
  Plan plan_;
  ScoredKernels kernels_;
  ScoreArguments arguments_;
  MaskWorkspace workspace_;
  std::shared_ptr<std::byte> result_, work_, candidates_;
  MaskTensor* table_ = nullptr;
  ScoreInstruction* program_ = nullptr;
  std::int64_t counts_at_ = 0, keep_at_ = 0;
  std::vector<std::byte> host_;                  // state and counts
  std::vector<std::vector<std::uint8_t>> keep_;  // by tensor
};

}  // namespace

DeviceMaskResult mask_top_k(Backend& backend, const DeviceMaskRequest& request) {
  FM_CHECK(request.k >= 0, ARGUMENT, "Expected 0 or more for k but received ", request.k);
  const Needs needs = check_program(request.program);
  bool any = false;
  for (const DeviceMaskTensor& tensor : request.tensors) {
    check_tensor(tensor, needs);
    any |= tensor.units > 0;
  }
  if (!any) {
    DeviceMaskResult nothing;
    nothing.keep.resize(request.tensors.size());
    nothing.masked.resize(request.tensors.size(), 0);
    return nothing;
  }
  return Masking(backend, request).run();
}

}  // namespace fishermask::cuda
