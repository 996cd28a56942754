// RMS normalisation of rows for one instruction set, see normalize_row.h; called by native.py. Knows nothing of layers.

#include "yeoul/kernels/rms_norm/normalize_row.h"

#include "yeoul/kernels/native/operation.h"

namespace {

Plan plan_rms_norm(const RmsNormCall& call) { return {call.num_rows * call.size <= kSerialNumbers, 0}; }

void run_rms_norm(const RmsNormCall& call, Team& team) {
  team.share(call.num_rows, rows_of_a_piece(call.size), [&](int64_t row, int64_t end) {
    for (; row < end; ++row) normalize_row(call, row);
  });
}

}  // namespace

YEOUL_OPERATION(rms_norm, RmsNormCall, plan_rms_norm, run_rms_norm)
