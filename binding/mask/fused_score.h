// Loops for the score programs of the criteria (src/unlearn/criteria): the
// whole program element by element in registers, all inputs streamed side by
// side, instead of one pass over a block per instruction. The same operations
// in the same order, so the same bits.
#pragma once

#include <vector>

#include "mask/score_program.h"

namespace fishermask {

// Empty where no loop was written for this sequence of ops.
[[nodiscard]] FusedScore find_fused_score(const std::vector<ScoreInstruction>& instructions);

}  // namespace fishermask
