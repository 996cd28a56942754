// RMS normalisation for one instruction set, with the addition that comes before it; called by native.py.
//
// Knows nothing of layers. A row's sum of squares is added in one order, which its size alone decides.

#include "yeoul/kernels/rms_norm/norm_factor.h"

#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"

namespace {

template <class Number, bool kAdds>
void normalize(const RmsNormCall& call, int64_t row) {
  static thread_local Scratch scratch;
  float* numbers = scratch.at_least(call.size + kLanes);
  const int64_t start = row * call.size;
  const Number *values = (const Number*)call.values + start, *addend = (const Number*)call.addend + start;
  Number *sum = (Number*)call.sum + start, *output = (Number*)call.output + start;
  for_each_vector(call.size, [&](int64_t place, int count) {
    Floats number = load_some(values + place, count);
    if constexpr (kAdds) {
      number = number + load_some(addend + place, count);
      store_some(sum + place, number, count);
      number = load_some(sum + place, count);
    }
    store_some(numbers + place, number, count);
  });
  const Floats factor = splat(norm_factor(numbers, call.size, call.epsilon));
  for_each_vector(call.size, [&](int64_t place, int count) {
    const Floats number = load_some(numbers + place, count) * factor * load_some(call.weight + place, count);
    store_some(output + place, number, count);
  });
}

Plan plan_rms_norm(const RmsNormCall& call) { return {call.num_rows * call.size <= kSerialNumbers, 0}; }

void run_rms_norm(const RmsNormCall& call, Team& team) {
  team.share(call.num_rows, rows_of_a_piece(call.size), [&](int64_t row, int64_t end) {
    with_number_type(call.type, [&](auto number) {
      for (; row < end; ++row)
        call.addend != nullptr ? normalize<decltype(number), true>(call, row) : normalize<decltype(number), false>(call, row);
    });
  });
}

}  // namespace

YEOUL_OPERATION(rms_norm, RmsNormCall, plan_rms_norm, run_rms_norm)
