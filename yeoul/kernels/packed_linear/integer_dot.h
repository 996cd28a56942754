// The integer dot product of four unsigned numbers a lane with four signed ones; knows nothing of scales.

#pragma once

#include "yeoul/kernels/native/lanes.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

// Whether dot takes 128 from the numbers itself: without an unsigned by signed product that cannot overflow, it must.
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
constexpr bool kDotCenters = true;
#else
constexpr bool kDotCenters = false;
#endif

// sum + the products of the four numbers in each lane (1 to 255) with the four of `inputs` (-127 to 127).
inline Ints dot(Ints sum, Words numbers, Ints inputs) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)numbers, (__m512i)inputs);
#elif defined(__AVX2__)
  const __m256i centered = _mm256_xor_si256((__m256i)numbers, _mm256_set1_epi8((char)0x80));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(centered), _mm256_sign_epi8((__m256i)inputs, centered));
  return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__SSE2__)
  const __m128i low = _mm_set1_epi32(0x00ff00ff);
  const __m128i even = _mm_and_si128((__m128i)numbers, low), odd = _mm_srli_epi16((__m128i)numbers, 8);
  const __m128i even_inputs = _mm_srai_epi16(_mm_slli_epi16((__m128i)inputs, 8), 8);
  const __m128i odd_inputs = _mm_srai_epi16((__m128i)inputs, 8);
  return sum + (Ints)_mm_madd_epi16(even, even_inputs) + (Ints)_mm_madd_epi16(odd, odd_inputs);
#else
  for (int i = 0; i < 4; ++i) sum += (Ints)((numbers >> (8 * i)) & 255u) * ((inputs << (24 - 8 * i)) >> 24);
  return sum;
#endif
}

}  // namespace
