// A row of RMS normalisation, with the addition that comes before it; for all operations that normalise whole rows.
//
// A row's sum of squares is added in one order, which its size alone decides.

#pragma once

#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/rms_norm/norm_factor.h"

namespace {

template <class Number, bool kAdds>
inline void normalize_typed_row(const RmsNormCall& call, int64_t row) {
  static thread_local Scratch scratch;
  float* numbers = scratch.at_least(call.size + kLanes);
  const int64_t start = row * call.size;
  const Number* addend = (const Number*)call.addend + start;
  Number *values = (Number*)call.values + start, *output = (Number*)call.output + start;
  for_each_vector(call.size, [&](int64_t place, int count) {
    Floats number = load_some(values + place, count);
    if constexpr (kAdds) {
      number = number + load_some(addend + place, count);
      store_some(values + place, number, count);
      number = load_some(values + place, count);
    }
    store_some(numbers + place, number, count);
  });
  const Floats factor = splat(norm_factor(numbers, call.size, call.epsilon));
  for_each_vector(call.size, [&](int64_t place, int count) {
    const Floats number = load_some(numbers + place, count) * factor * load_some(call.weight + place, count);
    store_some(output + place, number, count);
  });
}

inline void normalize_row(const RmsNormCall& call, int64_t row) {
  with_number_type(call.type, [&](auto number) {
    call.addend != nullptr ? normalize_typed_row<decltype(number), true>(call, row)
                           : normalize_typed_row<decltype(number), false>(call, row);
  });
}

}  // namespace
