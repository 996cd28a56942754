// The factor of RMS normalisation, for all operations that normalise; knows nothing of what the numbers are.

#pragma once

#include "yeoul/kernels/native/typed_rows.h"

namespace {

// The factor that gives `size` floats a root mean square of one: four running sums, joined in pairs. NaN where their squares
// have no finite sum, since zeros would look like numbers.
inline float norm_factor(const float* numbers, int64_t size, float epsilon) {
  Floats sums[4] = {};
  int64_t place = 0;
  for (; place + 4 * kLanes <= size; place += 4 * kLanes)
    for (int part = 0; part < 4; ++part) {
      const Floats number = load(numbers + place + part * kLanes);
      sums[part] = multiply_add(number, number, sums[part]);
    }
  for (int part = 0; place < size; ++part, place += kLanes) {
    const Floats number = load_some(numbers + place, lanes_left(size, place));
    sums[part] = multiply_add(number, number, sums[part]);
  }
  const float total = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
  const float factor = 1.0f / __builtin_sqrtf(total / (float)size + epsilon);
  return total < __builtin_inff() ? factor : __builtin_nanf("");
}

}  // namespace
