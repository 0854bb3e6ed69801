// Which kernel takes a contraction.
#include "fisher/contraction.h"
#include "fisher/contraction_wgmma.h"

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
  std::string& kernel = backend.square_notes().kernel;
  if (is_on_vectors(form)) {
    kernel = "vectors";
    accumulate_contraction_vectors(backend, form, sums);
  } else if (has_few_channels(form)) {
    kernel = "few channels";
    accumulate_contraction_depthwise(backend, form, sums);
  } else if (fits_wgmma(backend.matmul_precision(), form) && may_use_wgmma(backend)) {
    kernel = "wgmma";
    accumulate_contraction_wgmma(backend, form, sums);
  } else {
    kernel = "tiles";
    accumulate_contraction_tiles(backend, form, sums);
  }
}

}  // namespace fishermask::cuda
