#include "core/kernel.h"

namespace fishermask {

bool Kernel::fuse(const Epilogue& /*epilogue*/) { return false; }

std::vector<SquareProblem> Kernel::square_rule(const NodeIo& /*io*/) { return {}; }

}  // namespace fishermask
