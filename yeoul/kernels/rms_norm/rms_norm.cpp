// RMS normalisation for one instruction set, with the addition that comes before it; called by native.py.
//
// Knows nothing of layers. A row's sum of squares is added in one order, which its size alone decides.

#include "yeoul/kernels/rms_norm/norm_factor.h"

#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"

namespace {

void normalize(const RmsNormCall& call, int64_t row) {
  static thread_local Scratch scratch;
  float* numbers = scratch.at_least(call.size + kLanes);
  const int64_t start = row * call.size;
  const int32_t type = call.type;
  for (int64_t place = 0; place < call.size; place += kLanes) {
    const int count = lanes_left(call.size, place);
    Floats number = load_typed(address_of(call.values, start + place, type), type, count);
    if (call.addend != nullptr) {
      number = number + load_typed(address_of(call.addend, start + place, type), type, count);
      char* target = address_of(call.sum, start + place, type);
      store_typed(target, type, number, count);
      number = load_typed(target, type, count);
    }
    store_some(numbers + place, number, count);
  }
  const Floats factor = splat(norm_factor(numbers, call.size, call.epsilon));
  for (int64_t place = 0; place < call.size; place += kLanes) {
    const int count = lanes_left(call.size, place);
    const Floats number = load_some(numbers + place, count) * factor * load_some(call.weight + place, count);
    store_typed(address_of(call.output, start + place, type), type, number, count);
  }
}

Plan plan_rms_norm(const RmsNormCall& call) { return {call.num_rows * call.size <= kSerialNumbers, 0}; }

void run_rms_norm(const RmsNormCall& call, Team& team) {
  team.share(call.num_rows, rows_of_a_piece(call.size), [&](int64_t row, int64_t end) {
    for (; row < end; ++row) normalize(call, row);
  });
}

}  // namespace

YEOUL_OPERATION(rms_norm, RmsNormCall, plan_rms_norm, run_rms_norm)
