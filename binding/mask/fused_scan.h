// score_and_classify: scores of a block of single weights and where they lie against the marks, in
// one loop that reads each input once: what mask_top_k spends its time in. A form that first threw
// out what is surely below the marks, without division, was slower (75 against 62 ms of processor
// time at 5e7 weights, Zen 4).
// Result:        that of ScoreProgram::evaluate_eligible followed by classify_block, bit for bit.
// Shapes:        count <= TopKBlock::kMaxUnits; scores (count,) are written.
// Deterministic: yes.
// Errors:        ARGUMENT on a missing input.
#pragma once

#include <cstdint>

#include "mask/score_program.h"
#include "mask/top_k_block.h"

namespace fishermask {

void score_and_classify(const ScoreProgram& program, const ScoreInputs& inputs, std::int64_t count,
                        const TopKMarks& marks, float* scores, TopKBlock& block);

}  // namespace fishermask
