// Rows of a linear layer's input as pairs of bfloat16, laid out for the tiles of packed_linear; knows nothing of weights.
//
// As in integer_rows.h, with blocks of 32 numbers.

#pragma once

#include "yeoul/kernels/native/lanes.h"
#include "yeoul/kernels/packed_linear/packed_format.h"

namespace {

struct BFloatRows {
  int64_t num_blocks;
  uint32_t* pairs;  // a tile of R rows: [blocks][R][16], the first of a pair in the low half

  const uint32_t* tile(int64_t first_row) const { return pairs + first_row * num_blocks * (kBFloatBlock / 2); }

  // As IntegerRows::fill.
  template <class Number>
  void fill(const Number* row, int64_t size, int64_t begin, int64_t end, int64_t first_row, int r, int num_rows) {
    const int64_t last = end < size ? end / kBFloatBlock : num_blocks;
    for (int64_t block = begin / kBFloatBlock; block < last; ++block) {
      auto* target = (BFloat16*)pairs + (first_row * num_blocks + block * num_rows + r) * kBFloatBlock;
#pragma GCC unroll 8
      for (int i = 0; i < kBFloatBlock; i += kLanes) {
        const int64_t left = size - block * kBFloatBlock - i;
        const Number* source = row + block * kBFloatBlock + i;
        store(target + i, left >= kLanes ? load(source) : left > 0 ? load_some(source, (int)left) : splat(0.0f));
      }
    }
  }
};

// The room that bfloat_rows needs.
inline int64_t bfloat_bytes(int64_t num_rows, int64_t size) { return num_rows * ceil_divide(size, kBFloatBlock) * kBFloatBlock * 2; }

// Lays rows out in room.
inline BFloatRows bfloat_rows(char* room, int64_t size) { return {ceil_divide(size, kBFloatBlock), (uint32_t*)room}; }

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
