// The integer dot product of four codes a lane, on each instruction set; knows nothing of scales.

#pragma once

#include "yeoul/kernels/native/lanes.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

inline Words load_codes(const uint8_t* codes) {
  Words value;
  __builtin_memcpy(&value, codes, sizeof value);
  return value;
}

// Whether dot_wide takes 128 from the codes itself: without an unsigned by signed product that cannot overflow, it must.
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
constexpr bool kWideCodesAreCentered = true;
#else
constexpr bool kWideCodesAreCentered = false;
#endif

// sum + the products of the four codes in each lane with the four numbers of `inputs`; codes are below 128.
inline Ints dot(Ints sum, Words codes, Ints inputs) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, (__m512i)inputs);
#elif defined(__AVX2__)
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)codes, (__m256i)inputs);
  return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__SSE2__)
  const __m128i low = _mm_set1_epi32(0x00ff00ff);
  const __m128i even = _mm_and_si128((__m128i)codes, low), odd = _mm_and_si128(_mm_srli_epi32((__m128i)codes, 8), low);
  const __m128i even_inputs = _mm_srai_epi16(_mm_slli_epi16((__m128i)inputs, 8), 8);
  const __m128i odd_inputs = _mm_srai_epi16((__m128i)inputs, 8);
  return sum + (Ints)_mm_madd_epi16(even, even_inputs) + (Ints)_mm_madd_epi16(odd, odd_inputs);
#else
  for (int i = 0; i < 4; ++i) sum += (Ints)((codes >> (8 * i)) & 255u) * ((inputs << (24 - 8 * i)) >> 24);
  return sum;
#endif
}

// The same for codes up to 255.
inline Ints dot_wide(Ints sum, Words codes, Ints inputs) {
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
  const __m256i centered = _mm256_xor_si256((__m256i)codes, _mm256_set1_epi8((char)0x80));
  return dot(sum, (Words)_mm256_abs_epi8(centered), (Ints)_mm256_sign_epi8((__m256i)inputs, centered));
#else
  return dot(sum, codes, inputs);
#endif
}

}  // namespace
