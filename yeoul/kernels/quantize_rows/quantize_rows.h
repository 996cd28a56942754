// Rows of numbers to 8-bit integers with a scale for each 32 consecutive ones; knows nothing of weights.
//
// Included by the operations that multiply with quantised weights.

#pragma once

#include "yeoul/kernels/native/lanes.h"

namespace {

constexpr int kQuantizedBlock = 32;

// Quantises a block of 32 numbers; of them `count` exist, the others are zeros. Returns the scale.
template <class Number>
inline float quantize_block(const Number* numbers, int count, int8_t* codes) {
  constexpr int kVectors = kQuantizedBlock / kLanes;
  Floats values[kVectors];
  Floats largest = splat(0.0f);
  for (int i = 0; i < kVectors; ++i) {
    const int left = count - i * kLanes;
    values[i] = left > 0 ? load_some(numbers + i * kLanes, left) : splat(0.0f);
    largest = maximum(absolute(values[i]), largest);
  }
  const float amax = largest_lane(largest);
  const float scale = amax / 127.0f;
  const float inverse = amax > 0.0f ? 127.0f / amax : 0.0f;
  const Floats shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
  for (int i = 0; i < kVectors; ++i) {
    const Ints rounded = (Ints)(values[i] * splat(inverse) + shifter) - (Ints)shifter;
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i*)(codes + i * kLanes), _mm512_cvtepi32_epi8((__m512i)rounded));
#else
    for (int lane = 0; lane < kLanes; ++lane) codes[i * kLanes + lane] = (int8_t)rounded[lane];
#endif
  }
  return scale;
}

inline int32_t sum_codes(const int8_t* codes, int count) {
  int32_t sum = 0;
  for (int i = 0; i < count; ++i) sum += codes[i];
  return sum;
}

// A whole row: codes [padded_size], scales [padded_size / 32], and the sum of the codes of each `sum_block` (16 or 32)
// consecutive numbers. padded_size is a multiple of 32.
template <class Number>
inline void quantize_row(const Number* row, int64_t size, int64_t padded_size, int sum_block, int8_t* codes, float* scales,
                         int32_t* sums) {
  for (int64_t start = 0; start < padded_size; start += kQuantizedBlock) {
    const int64_t left = size - start;
    scales[start / kQuantizedBlock] =
        quantize_block(row + start, left < kQuantizedBlock ? (int)left : kQuantizedBlock, codes + start);
    for (int64_t first = start; first < start + kQuantizedBlock; first += sum_block)
      sums[first / sum_block] = sum_codes(codes + first, sum_block);
  }
}

}  // namespace
