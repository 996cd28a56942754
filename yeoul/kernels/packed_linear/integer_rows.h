// Rows of a linear layer's input, quantised and laid out for the tiles of packed_linear; knows nothing of weights.
//
// A tile is some rows, and its blocks follow each other: in a block the 64 codes of the first row, those of the second and so
// on, so that the inner loop finds all of them at fixed distances from one address.

#pragma once

#include "yeoul/kernels/packed_linear/integer_dot.h"
#include "yeoul/kernels/packed_linear/packed_format.h"
#include "yeoul/kernels/packed_linear/quantize_rows.h"

namespace {

constexpr int kParts = kBlockInputs / kQuantizedBlock;  // of a block, each with a scale of its own

// A tile of R rows.
struct IntegerTile {
  const int32_t* codes;        // [blocks][R][16], four codes each
  const float* scales;         // [blocks][R][kParts]
  const int32_t* corrections;  // [blocks][R][kParts]: what makes up for weights that are stored with 128 added
};

struct IntegerRows {
  int64_t num_blocks;
  int8_t* codes;
  float* scales;
  int32_t* corrections;

  IntegerTile tile(int64_t first_row) const {
    const int64_t place = first_row * num_blocks;
    return {(const int32_t*)(codes + place * kBlockInputs), scales + place * kParts, corrections + place * kParts};
  }

  // Quantises a part of a row, which is row r of the num_rows of its tile; up to the end of the last block where it ends the row.
  template <class Number>
  void fill(const Number* row, int64_t size, int64_t begin, int64_t end, int64_t first_row, int r, int num_rows) {
    const auto place_of = [&](int64_t part) {
      return (first_row * num_blocks + part / kParts * num_rows + r) * kParts + part % kParts;
    };
    const auto keep = [&](int64_t place, const QuantizedBlock& found) {
      scales[place] = found.scale;
      corrections[place] = kDotCenters ? 0 : -kZero * found.sum;
    };
    int64_t part = begin / kQuantizedBlock;
    const int64_t last = end < size ? end / kQuantizedBlock : num_blocks * kParts;
#if defined(__AVX512F__)
    for (; (part + 4) * kQuantizedBlock <= end; part += 4) {
      const int64_t places[4] = {place_of(part), place_of(part + 1), place_of(part + 2), place_of(part + 3)};
      int8_t* targets[4];
      for (int i = 0; i < 4; ++i) targets[i] = codes + places[i] * kQuantizedBlock;
      QuantizedBlock found[4];
      quantize_four_blocks(row + part * kQuantizedBlock, targets, found);
      for (int i = 0; i < 4; ++i) keep(places[i], found[i]);
    }
#endif
    for (; part < last; ++part) {
      const int64_t first = part * kQuantizedBlock;
      keep(place_of(part), quantize_block(row + first, size - first, codes + place_of(part) * kQuantizedBlock));
    }
  }
};

// Every part of the rows starts at a cache line.
inline int64_t integer_blocks(int64_t num_rows, int64_t size) {
  return ceil_divide(num_rows * ceil_divide(size, kBlockInputs), 16) * 16;
}

// The room that integer_rows needs.
inline int64_t integer_bytes(int64_t num_rows, int64_t size) { return integer_blocks(num_rows, size) * (kBlockInputs + kParts * 8); }

// Lays rows out in room.
inline IntegerRows integer_rows(char* room, int64_t num_rows, int64_t size) {
  const int64_t blocks = integer_blocks(num_rows, size);
  char* scales = room + blocks * kBlockInputs;
  return {ceil_divide(size, kBlockInputs), (int8_t*)room, (float*)scales, (int32_t*)(scales + blocks * kParts * 4)};
}

}  // namespace
