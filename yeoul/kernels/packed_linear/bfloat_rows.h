// Rows of a linear layer's input as pairs of bfloat16, laid out for the tiles of packed_linear; knows nothing of weights.
//
// Within a tile of rows, the pairs of the same place are together, see integer_rows.h.

#pragma once

#include "yeoul/kernels/native/lanes.h"
#include "yeoul/kernels/packed_linear/integer_rows.h"

namespace {

struct BFloatRows {
  int64_t num_rows;
  int64_t num_pairs;
  uint32_t* pairs;  // [num_pairs][R] a tile; the first of a pair in the low half

  const uint32_t* tile(int64_t index) const { return pairs + index * kRowsATile * num_pairs; }

  template <class Number>
  void fill(const Number* rows, int64_t size, int64_t tile, int num_rows_here) {
    uint32_t* target = pairs + tile * kRowsATile * num_pairs;
    for (int r = 0; r < num_rows_here; ++r) {
      const Number* row = rows + (tile * kRowsATile + r) * size;
      for (int64_t first = 0; first < size; first += kLanes) {
        const int count = size - first < kLanes ? (int)(size - first) : kLanes;
        BFloat16 rounded[kLanes];
        store(rounded, load_some(row + first, count));
        for (int i = 0; i < count; i += 2)
          __builtin_memcpy(&target[(first + i) / 2 * num_rows_here + r], rounded + i, 4);
      }
    }
  }
};

// The room that bfloat_rows needs.
inline int64_t bfloat_bytes(int64_t num_rows, int64_t size) { return num_rows * ceil_divide(size, 2) * 4; }

// Lays rows out in room.
inline BFloatRows bfloat_rows(char* room, int64_t num_rows, int64_t size) {
  return {num_rows, ceil_divide(size, 2), (uint32_t*)room};
}

// sum + the products of the pairs in each lane with the pair `inputs`, the first first.
inline Floats dot_pairs(Floats sum, Words weights, Words inputs) {
#if defined(__AVX512BF16__)
  return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)inputs);
#else
  sum = multiply_add((Floats)(weights << 16), (Floats)(inputs << 16), sum);
  return multiply_add((Floats)(weights & 0xffff0000u), (Floats)(inputs & 0xffff0000u), sum);
#endif
}

}  // namespace
