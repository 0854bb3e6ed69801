// score_and_classify: scores of a block of single weights and which reach the mark, in one loop
// that reads each input once: what mask_top_k spends its time in. Where a score can be ruled out
// without a division (score_filter.h), it is. Result:        that of
// ScoreProgram::evaluate_eligible followed by classify_block, bit for bit. Shapes:        count <=
// TopKBlock::kMaxUnits; scratch (count,), of no use afterwards. Deterministic: yes. Errors:
// ARGUMENT on a missing input.
#pragma once

#include <cstdint>

#include "mask/score_program.h"
#include "mask/top_k_block.h"

namespace fishermask {

void score_and_classify(const ScoreProgram& program, const ScoreInputs& inputs, std::int64_t count,
                        float low, float* scratch, TopKBlock& block);

}  // namespace fishermask
