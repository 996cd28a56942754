// Vectors of float lanes for the instruction set that this file is compiled for; knows nothing of any operation.
//
// Included once by each file of an instruction set, so everything is in an unnamed namespace: the linker must never take a
// function that was compiled for one set for the same function of another. For the same reason nothing here instantiates
// templates of the standard library. Compiled with -ffp-contract=off: what is fused is written as multiply_add, so that a
// number does not depend on how a loop was unrolled.

#pragma once

#include <stdint.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halfwords __attribute__((vector_size(kLanes * 2)));

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

inline float as_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t as_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline Floats splat(float value) { return value - Floats{}; }

inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// a < b ? yes : no, lane by lane; no where a lane is NaN.
inline Floats select_less(Floats a, Floats b, Floats yes, Floats no) {
#if defined(__AVX512F__)
  return (Floats)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ), (__m512)no, (__m512)yes);
#elif defined(__AVX2__)
  return (Floats)_mm256_blendv_ps((__m256)no, (__m256)yes, _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LT_OQ));
#else
  return (Floats)(((Ints)yes & (Ints)(a < b)) | ((Ints)no & ~(Ints)(a < b)));
#endif
}

// The larger; b where either is NaN.
inline Floats maximum(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return select_less(b, a, a, b);
#endif
}

inline Ints maximum(Ints a, Ints b) {
#if defined(__AVX512F__)
  return (Ints)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Ints)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
  return (a & (Ints)(a > b)) | (b & ~(Ints)(a > b));
#endif
}

// The smaller; b where either is NaN.
inline Floats minimum(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return select_less(a, b, a, b);
#endif
}

inline Floats absolute(Floats value) { return (Floats)((Words)value & 0x7fffffffu); }

inline Floats load(const float* source) {
  Floats value;
  __builtin_memcpy(&value, source, sizeof value);
  return value;
}

inline Words load_words(const void* source) {
  Words words;
  __builtin_memcpy(&words, source, sizeof words);
  return words;
}

inline Words widen(const uint16_t* source) {
#if defined(__AVX512F__)
  return (Words)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)source));
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)source));
#else
  Halfwords value;
  __builtin_memcpy(&value, source, sizeof value);
  return __builtin_convertvector(value, Words);
#endif
}

inline void store_narrow(uint16_t* target, Words value) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)target, _mm512_cvtepi32_epi16((__m512i)value));
#else
  Halfwords narrow = __builtin_convertvector(value, Halfwords);
  __builtin_memcpy(target, &narrow, sizeof narrow);
#endif
}

inline Floats load(const BFloat16* source) { return (Floats)(widen(&source->bits) << 16); }

inline Floats load(const Float16* source) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)source));
#elif defined(__AVX2__) && defined(__F16C__)
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)source));
#else
  // The exponent is moved to its place and 112 added to it by a multiplication, which also makes subnormals normal;
  // infinities and NaN get the largest exponent.
  const Words bits = widen(&source->bits);
  const Words magnitude = (bits & 0x7fffu) << 13;
  const Floats scaled = (Floats)magnitude * splat(as_float(0x77800000u));
  const Words special = (Words)((bits & 0x7c00u) == 0x7c00u);
  return (Floats)((((Words)scaled & ~special) | ((magnitude | 0x7f800000u) & special)) | ((bits & 0x8000u) << 16));
#endif
}

inline void store(float* target, Floats value) { __builtin_memcpy(target, &value, sizeof value); }

// Rounds to nearest, ties to even; BF16's own instruction takes subnormals for zeros.
inline void store(BFloat16* target, Floats value) {
#if defined(__AVX512BF16__)
  const __m256bh rounded = _mm512_cvtneps_pbh((__m512)value);
  __builtin_memcpy(target, &rounded, sizeof rounded);
#else
  const Words bits = (Words)value;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words is_nan = (Words)((bits & 0x7fffffffu) > 0x7f800000u);
  store_narrow(&target->bits, (rounded & ~is_nan) | (((bits >> 16) | 0x40u) & is_nan));
#endif
}

// Rounds to nearest, ties to even; what is too large becomes infinite.
inline void store(Float16* target, Floats value) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)target, _mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__AVX2__) && defined(__F16C__)
  _mm_storeu_si128((__m128i*)target, _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
  const Words sign = ((Words)value >> 16) & 0x8000u;
  const Words magnitude = (Words)value & 0x7fffffffu;
  const Words normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 an addition of 1/2 leaves the bits of a subnormal, rounded, at the low end.
  const Words small = (Words)((Floats)magnitude + splat(0.5f)) - 0x3f000000u;
  const Words is_small = (Words)(magnitude < 0x38800000u);
  const Words is_large = (Words)(magnitude >= 0x477ff000u);
  const Words is_nan = (Words)(magnitude > 0x7f800000u);
  Words bits = (small & is_small) | (normal & ~is_small);
  bits = (bits & ~is_large) | (0x7c00u & is_large);
  bits = (bits & ~is_nan) | (0x7e00u & is_nan);
  store_narrow(&target->bits, bits | sign);
#endif
}

// The first `count` numbers, zeros after them.
template <class Number>
inline Floats load_some(const Number* source, int count) {
  if (count >= kLanes) return load(source);
  Number numbers[kLanes] = {};
  for (int lane = 0; lane < count; ++lane) numbers[lane] = source[lane];
  return load(numbers);
}

template <class Number>
inline void store_some(Number* target, Floats value, int count) {
  if (count >= kLanes) return store(target, value);
  Number numbers[kLanes];
  store(numbers, value);
  for (int lane = 0; lane < count; ++lane) target[lane] = numbers[lane];
}

// The sum of all lanes, halves first.
inline float sum_lanes(Floats value) {
#if defined(__AVX512F__)
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)value),
                                     _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd((__m512)value), 1)));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
  float lanes[kLanes];
  store(lanes, value);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
#endif
}

inline float largest_lane(Floats value) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)value);
#else
  float lanes[kLanes];
  store(lanes, value);
  float largest = lanes[0];
  for (int lane = 1; lane < kLanes; ++lane) largest = lanes[lane] > largest ? lanes[lane] : largest;
  return largest;
#endif
}

inline int32_t largest_lane(Ints value) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_epi32((__m512i)value);
#else
  int32_t largest = value[0];
  for (int lane = 1; lane < kLanes; ++lane) largest = value[lane] > largest ? value[lane] : largest;
  return largest;
#endif
}

// 2 to the power of whole, times value; `shifted` is whole + 1.5 * 2^23.
inline Floats scale_by_power(Floats value, Floats whole, Floats shifted) {
#if defined(__AVX512F__)
  (void)shifted;
  return (Floats)_mm512_scalef_ps((__m512)value, (__m512)whole);
#else
  (void)whole;
  return value * (Floats)(((Words)shifted << 23) + 0x3f800000u);
#endif
}

// e to the power of value: 1 at 0 exactly, 0 far below -87.3, infinite above 88.7, NaN at NaN; else 2 units in the last place.
inline Floats exponential(Floats value) {
#if defined(__AVX512F__)
  const Floats lowest = splat(-200.0f), highest = splat(200.0f);  // far beyond the numbers that there are
#else
  const Floats lowest = splat(-87.33f), highest = splat(88.3f);
#endif
  const Floats bounded = minimum(highest, maximum(lowest, value));
  const Floats shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold
  const Floats shifted = multiply_add(bounded, splat(1.44269504f), shifter);
  const Floats whole = shifted - shifter;
  Floats rest = multiply_add(whole, splat(-0.693359375f), bounded);
  rest = multiply_add(whole, splat(2.12194440e-4f), rest);
  Floats series = splat(1.9875691500e-4f);
  series = multiply_add(series, rest, splat(1.3981999507e-3f));
  series = multiply_add(series, rest, splat(8.3334519073e-3f));
  series = multiply_add(series, rest, splat(4.1665795894e-2f));
  series = multiply_add(series, rest, splat(1.6666665459e-1f));
  series = multiply_add(series, rest, splat(5.0000001201e-1f));
  series = multiply_add(series, rest * rest, rest) + splat(1.0f);
  const Floats result = scale_by_power(series, whole, shifted);
#if defined(__AVX512F__)
  return result;
#else
  return select_less(highest, value, splat(__builtin_inff()), select_less(value, lowest, splat(0.0f), result));
#endif
}

// Within 1e-7 of the hyperbolic tangent.
inline Floats hyperbolic_tangent(Floats value) {
  return splat(1.0f) - splat(2.0f) / (exponential(value + value) + splat(1.0f));
}

}  // namespace
