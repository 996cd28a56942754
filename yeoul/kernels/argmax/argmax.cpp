// The place of the largest number of each row, for one instruction set; called by native.py. Knows nothing of sampling.

#include "yeoul/kernels/native/export.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

constexpr int64_t kArgmaxPiece = 1024;

// The largest number of a piece; NaN where a number is NaN or the largest infinite.
inline float largest_of(const float* values, int64_t size) {
  Floats largest = splat(-__builtin_inff()), strange = {};
  for (int64_t place = 0; place < size; place += kLanes) {
    const int count = lanes_left(size, place);
    const Floats value = count == kLanes ? load(values + place) : load_some(values + place, count);
    if (count < kLanes) {
      for (int lane = 0; lane < count; ++lane) {
        if (!(value[lane] <= largest[0])) largest[0] = value[lane];
        if (value[lane] != value[lane]) strange[0] = value[lane];
      }
      continue;
    }
    largest = maximum(largest, value);
    strange = strange + select_less(value, splat(__builtin_inff()), Floats{}, value - value);
  }
  return largest_lane(largest) + sum_lanes(strange);
}

}  // namespace

// places[row] is the first place of the largest number; highest[row] is that number, NaN if it cannot be told or is infinite.
YEOUL_EXPORT(void, argmax)
(int64_t num_rows, int64_t size, const float* values, int64_t* places, float* highest) {
#pragma omp parallel for schedule(static) if (num_rows > 1 && num_rows * size > kSerialNumbers)
  for (int64_t row = 0; row < num_rows; ++row) {
    const float* mine = values + row * size;
    int64_t best_piece = 0;
    float best = -__builtin_inff();
    for (int64_t start = 0; start < size; start += kArgmaxPiece) {
      const float largest = largest_of(mine + start, size - start < kArgmaxPiece ? size - start : kArgmaxPiece);
      if (best == best && !(largest <= best)) {
        best = largest;
        best_piece = start;
      }
    }
    int64_t place = best_piece;
    while (place < size - 1 && mine[place] != best && best == best) ++place;
    places[row] = place;
    highest[row] = best;
  }
}
