// Rows of numbers to 8-bit integers with a scale for each 32 consecutive ones; knows nothing of weights.
//
// The truth that it is tested against is in tests/unit/kernels/quantize_rows_reference.py.

#pragma once

#include "yeoul/kernels/native/lanes.h"

namespace {

constexpr int kQuantizedBlock = 32;

struct QuantizedBlock {
  float scale;
  int32_t sum;  // of the codes
};

// Quantises a block of 32 numbers; of them `count` exist, the others are zeros. Where one is NaN or infinite, the scale is NaN,
// so that nothing that is multiplied with the block is a number.
template <class Number>
inline QuantizedBlock quantize_block(const Number* numbers, int64_t count, int8_t* codes) {
  constexpr int kVectors = kQuantizedBlock / kLanes;
  Floats values[kVectors];
  Ints largest = {};  // the bits: no number is larger than a NaN
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) {
    const int64_t left = count - i * kLanes;
    values[i] = left >= kLanes ? load(numbers + i * kLanes) : left > 0 ? load_some(numbers + i * kLanes, (int)left) : splat(0.0f);
    largest = maximum((Ints)absolute(values[i]), largest);
  }
  const float amax = as_float((uint32_t)largest_lane(largest));
  if (!(amax < __builtin_inff())) {
    __builtin_memset(codes, 0, kQuantizedBlock);
    return {__builtin_nanf(""), 0};
  }
  const Floats inverse = splat(amax > 0.0f ? 127.0f / amax : 0.0f);
  const Floats shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
  Ints sum = {};
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) {
    const Ints rounded = (Ints)(values[i] * inverse + shifter) - (Ints)shifter;
    sum += rounded;
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i*)(codes + i * kLanes), _mm512_cvtepi32_epi8((__m512i)rounded));
#else
    for (int lane = 0; lane < kLanes; ++lane) codes[i * kLanes + lane] = (int8_t)rounded[lane];
#endif
  }
#if defined(__AVX512F__)
  const int32_t total = _mm512_reduce_add_epi32((__m512i)sum);
#else
  int32_t total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
#endif
  return {amax / 127.0f, total};
}

#if defined(__AVX512F__)
// The largest, or the sum, of each of four vectors' lanes: lanes 0 to 3 have the first's, 4 to 7 the second's and so on.
template <class Join>
inline __m512i join_lanes(const __m512i (&four)[4], Join join) {
  const __m512i low = join(_mm512_shuffle_i64x2(four[0], four[1], 0x44), _mm512_shuffle_i64x2(four[0], four[1], 0xee));
  const __m512i high = join(_mm512_shuffle_i64x2(four[2], four[3], 0x44), _mm512_shuffle_i64x2(four[2], four[3], 0xee));
  const __m512i quarters = join(_mm512_shuffle_i64x2(low, high, 0x88), _mm512_shuffle_i64x2(low, high, 0xdd));
  const __m512i pairs = join(quarters, _mm512_shuffle_epi32(quarters, _MM_PERM_BADC));
  return join(pairs, _mm512_shuffle_epi32(pairs, _MM_PERM_CDAB));
}

// Four whole blocks, the same bits as one by one.
template <class Number>
inline void quantize_four_blocks(const Number* numbers, int8_t* const codes[4], QuantizedBlock found[4]) {
  __m512i largest[4], sums[4];
  Floats values[4][2];
#pragma GCC unroll 4
  for (int block = 0; block < 4; ++block) {
    values[block][0] = load(numbers + block * kQuantizedBlock);
    values[block][1] = load(numbers + block * kQuantizedBlock + kLanes);
    largest[block] = _mm512_max_epi32((__m512i)absolute(values[block][0]), (__m512i)absolute(values[block][1]));
  }
  const Floats amax = (Floats)join_lanes(largest, [](__m512i a, __m512i b) { return _mm512_max_epi32(a, b); });
  if (_mm512_cmp_ps_mask((__m512)amax, _mm512_set1_ps(__builtin_inff()), _CMP_NLT_UQ) != 0) {
    for (int block = 0; block < 4; ++block)
      found[block] = quantize_block(numbers + block * kQuantizedBlock, kQuantizedBlock, codes[block]);
    return;
  }
  const Floats inverses = select_less(splat(0.0f), amax, splat(127.0f) / amax, splat(0.0f));
  const Floats scales = amax / splat(127.0f);
#pragma GCC unroll 4
  for (int block = 0; block < 4; ++block) {
    const __m512 inverse = _mm512_permutexvar_ps(_mm512_set1_epi32(4 * block), (__m512)inverses);
    const __m512i first = _mm512_cvtps_epi32((__m512)values[block][0] * inverse);
    const __m512i second = _mm512_cvtps_epi32((__m512)values[block][1] * inverse);
    _mm_storeu_si128((__m128i*)codes[block], _mm512_cvtepi32_epi8(first));
    _mm_storeu_si128((__m128i*)(codes[block] + kLanes), _mm512_cvtepi32_epi8(second));
    sums[block] = _mm512_add_epi32(first, second);
  }
  const Ints totals = (Ints)join_lanes(sums, [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); });
#pragma GCC unroll 4
  for (int block = 0; block < 4; ++block) found[block] = {scales[4 * block], totals[4 * block]};
}
#endif

}  // namespace
