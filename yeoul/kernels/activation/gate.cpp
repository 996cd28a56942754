// Gated activations of rows for one instruction set, see gate_row.h; called by native.py. Knows nothing of layers.

#include "yeoul/kernels/activation/gate_row.h"

#include "yeoul/kernels/native/operation.h"

namespace {

Plan plan_gate(const GateCall& call) { return {call.num_rows * call.size <= kSerialNumbers / 2, 0}; }

void run_gate(const GateCall& call, Team& team) {
  const RowParts parts(call.size, kPartNumbers);
  team.share(call.num_rows * parts.count, rows_of_a_piece(kPartNumbers), [&](int64_t part, int64_t last) {
    for (; part < last; ++part) gate_row(call, parts.row(part), parts.begin(part), parts.end(part));
  });
}

}  // namespace

YEOUL_OPERATION(gate, GateCall, plan_gate, run_gate)
