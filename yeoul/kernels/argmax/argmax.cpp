// The place of the largest number of each row, for one instruction set; called by native.py. Knows nothing of sampling.

#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"
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

void find_largest(const ArgmaxCall& call, int64_t row) {
  const float* mine = call.values + row * call.size;
  int64_t best_piece = 0;
  float best = -__builtin_inff();
  for (int64_t start = 0; start < call.size; start += kArgmaxPiece) {
    const float largest = largest_of(mine + start, call.size - start < kArgmaxPiece ? call.size - start : kArgmaxPiece);
    if (best == best && !(largest <= best)) {
      best = largest;
      best_piece = start;
    }
  }
  int64_t place = best_piece;
  while (place < call.size - 1 && mine[place] != best && best == best) ++place;
  call.places[row] = place;
  call.highest[row] = best;
}

Plan plan_argmax(const ArgmaxCall& call) { return {call.num_rows == 1 || call.num_rows * call.size <= kSerialNumbers, 0}; }

void run_argmax(const ArgmaxCall& call, Team& team) {
  team.share(call.num_rows, 1, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) find_largest(call, row);
  });
}

}  // namespace

YEOUL_OPERATION(argmax, ArgmaxCall, plan_argmax, run_argmax)
