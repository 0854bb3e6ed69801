// Streams, events, captures and graphs of the emulated runtime.
//
// By default work runs when it is enqueued. FISHERMASK_EMULATED_STREAMS=late, read when a stream is
// made, lets that stream's run only when the host, or a wait of another stream, needs it: with one
// stream late and another not, a missing wait shows in the values.
// A capture keeps what is enqueued for the graph, and refuses what a real one does: synchronising,
// copies of the host's own (pageable) memory, and, on the capturing thread, taking and freeing
// memory. It is invalid from then on.
#pragma once

#include <functional>

#include "emulation/block.h"

struct FmEmulatedStream;

namespace fishermask::emulation {

// Runs `work` in the stream's order, or keeps it for the graph that captures it.
void enqueue(FmEmulatedStream* stream, std::function<void()> work);

}  // namespace fishermask::emulation
