// RMS normalisation for one instruction set, with the addition that comes before it; called by native.py.
//
// Knows nothing of layers. A row's sum of squares is added in one order, which its size alone decides.

#include "yeoul/kernels/rms_norm/norm_factor.h"

#include "yeoul/kernels/native/export.h"

// sum = values + addend, rounded to the type, where there is an addend (sum may be values); output = norm(sum).
YEOUL_EXPORT(void, rms_norm)
(int type, int64_t num_rows, int64_t size, float epsilon, const float* weight, const void* values, const void* addend, void* sum,
 void* output) {
#pragma omp parallel for schedule(static) if (num_rows * size > kSerialNumbers)
  for (int64_t row = 0; row < num_rows; ++row) {
    static thread_local Scratch scratch;
    float* numbers = scratch.at_least(size + kLanes);
    const int64_t start = row * size;
    for (int64_t place = 0; place < size; place += kLanes) {
      const int count = lanes_left(size, place);
      Floats number = load_typed(address_of(values, start + place, type), type, count);
      if (addend != nullptr) {
        number = number + load_typed(address_of(addend, start + place, type), type, count);
        char* target = address_of(sum, start + place, type);
        store_typed(target, type, number, count);
        number = load_typed(target, type, count);
      }
      store_some(numbers + place, number, count);
    }
    const Floats factor = splat(norm_factor(numbers, size, epsilon));
    for (int64_t place = 0; place < size; place += kLanes) {
      const int count = lanes_left(size, place);
      const Floats number = load_some(numbers + place, count) * factor * load_some(weight + place, count);
      store_typed(address_of(output, start + place, type), type, number, count);
    }
  }
}
