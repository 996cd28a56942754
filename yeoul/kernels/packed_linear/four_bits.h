// Codes of 4 bits to the numbers of 8 that they stand for, see packed_format.h; knows nothing of inputs or scales.

#pragma once

#include "yeoul/kernels/packed_linear/integer_dot.h"
#include "yeoul/kernels/packed_linear/packed_format.h"

namespace {

typedef uint16_t Shorts __attribute__((vector_size(kLanes * 4)));

// A number of 16 bits for each of kLanes outputs, twice in its lane.
inline Shorts load_twice(const uint8_t* source) {
  const Words one = widen((const uint16_t*)source);
  return (Shorts)(one | one << 16);
}

// The low bytes from the even codes, the high ones from the odd: four numbers a lane.
inline Words numbers_of(Shorts even, Shorts odd, Shorts step, Shorts start) {
  return (Words)((even * step + start) >> 8 | ((odd * step + start) & 0xff00));
}

// One block of a tile: numbers is [16 groups][16 outputs][4 inputs].
template <class F>
inline void expand_block(const uint8_t* block, uint8_t* numbers) {
  constexpr int kLinesAStep = F::kStepBlock / (2 * kGroupInputs);
#pragma GCC unroll 4
  for (int part = 0; part < kBlockInputs / F::kStepBlock; ++part) {
#pragma GCC unroll 4
    for (int vector = 0; vector < kTileOutputs / kLanes; ++vector) {
      const int place = (part * kTileOutputs + vector * kLanes) * 2;
      const Shorts step = load_twice(block + place);
      const Shorts start = F::kHasStarts ? load_twice(block + F::kStepBytes + place) : kMiddle - 8 * step;
#pragma GCC unroll 4
      for (int line = part * kLinesAStep; line < (part + 1) * kLinesAStep; ++line) {
        const Shorts codes = (Shorts)load_words(block + F::kCodesOffset + line * kGroupBytes + vector * kLanes * 4);
        const Words low = numbers_of(codes & 15, codes >> 8 & 15, step, start);
        const Words high = numbers_of(codes >> 4 & 15, codes >> 12, step, start);
        uint8_t* target = numbers + line * 2 * kGroupBytes + vector * kLanes * 4;
        __builtin_memcpy(target, &low, sizeof low);
        __builtin_memcpy(target + kGroupBytes, &high, sizeof high);
      }
    }
  }
}

}  // namespace
