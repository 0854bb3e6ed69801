// Which kernel takes a contraction.
#include "fisher/contraction.h"

namespace fishermask::cuda {
namespace {

bool is_on_vectors(const ContractionForm& form) {
  return form.in_height * form.in_width * form.out_height * form.out_width == 1 &&
         form.kernel_height * form.kernel_width == 1 && form.groups == 1 && form.pad_top == 0 &&
         form.pad_left == 0;
}

// Groups whose weights at one tap are so few that a tile would compute zeros mostly. Not measured
// on a GPU: the narrow tile then does 16 · 64 products for 4 · 9 of a 3 × 3 kernel.
bool has_few_channels(const ContractionForm& form) {
  constexpr std::int64_t kMost = 4;
  return form.groups > 1 &&
         form.in_channels / form.groups * (form.out_channels / form.groups) <= kMost;
}

}  // namespace

void accumulate_contraction(Backend& backend, const ContractionForm& form, double* sums) {
  if (is_on_vectors(form)) {
    accumulate_contraction_vectors(backend, form, sums);
  } else if (has_few_channels(form)) {
    accumulate_contraction_depthwise(backend, form, sums);
  } else {
    accumulate_contraction_tiles(backend, form, sums);
  }
}

}  // namespace fishermask::cuda
