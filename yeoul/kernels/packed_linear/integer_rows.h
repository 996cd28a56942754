// Rows of a linear layer's input, quantised and laid out for the tiles of packed_linear; knows nothing of weights.
//
// Rows are taken kRowsATile at a time; within a tile, what belongs to the same place of its rows is together, so that the
// inner loop walks through memory with one address.

#pragma once

#include "yeoul/kernels/native/lanes.h"
#include "yeoul/kernels/packed_linear/packed_format.h"
#include "yeoul/kernels/quantize_rows/quantize_rows.h"

namespace {

#if defined(__AVX512F__)
constexpr int kRowsATile = 6;
#else
constexpr int kRowsATile = 2;
#endif

// Sums are of codes over 32 and 16 inputs: negated as integers, for weights with an offset, and times the scale, for weights
// with a minimum. r is the row in its tile of R rows.
struct RowTile {
  const int32_t* codes;          // [inputs / 4][R], four codes each
  const float* scales;           // [blocks][R]
  const int32_t* negated_sums[2];  // [blocks][R] and [2 * blocks][R]
  const float* scaled_sums[2];
};

struct IntegerRows {
  int64_t num_rows;
  int64_t num_blocks;
  int32_t* codes;
  float* scales;
  int32_t* negated_sums[2];
  float* scaled_sums[2];

  RowTile tile(int64_t index) const {
    const int64_t blocks = index * kRowsATile * num_blocks;
    return {codes + blocks * (kBlockInputs / 4),
            scales + blocks,
            {negated_sums[0] + blocks, negated_sums[1] + 2 * blocks},
            {scaled_sums[0] + blocks, scaled_sums[1] + 2 * blocks}};
  }

  // Quantises the rows of a tile.
  template <class Number>
  void fill(const Number* rows, int64_t size, int64_t tile, int num_rows_here) {
    const int64_t blocks = tile * kRowsATile * num_blocks;
    for (int r = 0; r < num_rows_here; ++r) {
      const Number* row = rows + (tile * kRowsATile + r) * size;
      for (int64_t block = 0; block < num_blocks; ++block) {
        alignas(64) int8_t found[kBlockInputs];
        const int64_t left = size - block * kBlockInputs;
        const float scale = quantize_block(row + block * kBlockInputs, left < kBlockInputs ? (int)left : kBlockInputs, found);
        const int64_t place = blocks + block * num_rows_here + r;
        scales[place] = scale;
        for (int group = 0; group < kBlockInputs / 4; ++group)
          __builtin_memcpy(&codes[(blocks + block * num_rows_here) * (kBlockInputs / 4) + group * num_rows_here + r],
                           found + 4 * group, 4);
        const int32_t first = sum_codes(found, 16), second = sum_codes(found + 16, 16);
        const int64_t half = 2 * (blocks + block * num_rows_here) + r;
        negated_sums[0][place] = -(first + second);
        scaled_sums[0][place] = scale * (float)(first + second);
        negated_sums[1][half] = -first;
        scaled_sums[1][half] = scale * (float)first;
        negated_sums[1][half + num_rows_here] = -second;
        scaled_sums[1][half + num_rows_here] = scale * (float)second;
      }
    }
  }
};

// Every part of the rows starts at a cache line.
inline int64_t integer_blocks(int64_t num_rows, int64_t size) {
  return ceil_divide(num_rows * ceil_divide(size, kBlockInputs), 16) * 16;
}

// The room that integer_rows needs.
inline int64_t integer_bytes(int64_t num_rows, int64_t size) {
  return integer_blocks(num_rows, size) * (kBlockInputs + 4 + 3 * 8);
}

// Lays rows out in room.
inline IntegerRows integer_rows(char* room, int64_t num_rows, int64_t size) {
  const int64_t blocks = integer_blocks(num_rows, size);
  const auto take = [&](int64_t number) {
    char* taken = room;
    room += number * blocks;
    return taken;
  };
  IntegerRows rows = {num_rows, ceil_divide(size, kBlockInputs), nullptr, nullptr, {}, {}};
  rows.codes = (int32_t*)take(kBlockInputs);
  rows.scales = (float*)take(4);
  rows.negated_sums[0] = (int32_t*)take(4);
  rows.scaled_sums[0] = (float*)take(4);
  rows.negated_sums[1] = (int32_t*)take(8);
  rows.scaled_sums[1] = (float*)take(8);
  return rows;
}

}  // namespace
