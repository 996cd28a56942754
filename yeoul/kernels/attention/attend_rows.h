// Attention of a few rows over one section of keys: scores, softmax, weighted values; and how sections are joined.
//
// In the flash style (Dao et al. 2022, arXiv:2205.14135), with a whole section between the passes over keys and values.
// Knows nothing of how work is dealt out. A row's numbers depend on its own query and keys only: scores are summed over the
// head in order, weights and values over the keys in order, and what a row does not see is added as exact zeros.

#pragma once

#include "yeoul/kernels/attention/key_section.h"

namespace {

constexpr float kNothingSeen = -1e30f;
#if defined(__AVX512F__)
constexpr int kBlockRows = 6, kBlockColumns = 4;
#elif defined(__AVX2__)
constexpr int kBlockRows = 6, kBlockColumns = 2;
#else
constexpr int kBlockRows = 4, kBlockColumns = 2;
#endif

// What rows have seen: the highest score, the sum of weights, and the weighted sum of values [num_rows, padded].
struct Softmax {
  float* highest;
  float* total;
  float* output;
};

inline Words splat_word(const float* word) {
  uint32_t bits;
  __builtin_memcpy(&bits, word, sizeof bits);
  return bits - Words{};
}

// Keeps a loaded vector in its register: compilers like to load it again for each row, which costs more than multiplying.
inline void hold(Words& value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#else
  (void)value;
#endif
}

// sum + the product of words: of floats, or of both numbers of a pair.
template <bool kPairs>
inline Floats multiply_words(Words a, Words b, Floats sum) {
#if defined(__AVX512BF16__)
  if constexpr (kPairs) return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
  return multiply_add((Floats)a, (Floats)b, sum);
}

inline Words load_words(const void* source) {
  Words words;
  __builtin_memcpy(&words, source, sizeof words);
  return words;
}

// The words of a vector of which only some exist; the others are zeros.
struct KnownWords {
#if defined(__AVX512F__)
  __mmask16 mask;
  explicit KnownWords(int count) : mask(count >= kLanes ? (__mmask16)0xffff : count > 0 ? (__mmask16)((1 << count) - 1) : (__mmask16)0) {}
  Words load(const char* source) const { return (Words)_mm512_maskz_loadu_epi32(mask, source); }
#else
  explicit KnownWords(int) {}  // values are packed, and filled up to whole vectors
  Words load(const char* source) const { return load_words(source); }
#endif
};

// Scores of kRows rows against kColumns columns of keys.
template <int kRows, int kColumns, bool kPairs>
inline void score_columns(const float* queries, int steps, const float* const* columns, int64_t stride, float* scores, Fetcher& fetcher) {
  Floats sums[kRows][kColumns];
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) sums[row][column] = splat(0.0f);
  int step = 0;
  do {  // a head has a number at least
    fetcher.fetch();
    Words key[kColumns];
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) {
      key[column] = load_words(columns[column] + step * stride);
      hold(key[column]);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const Words query = splat_word(queries + row * steps + step);
#pragma GCC unroll 4
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] = multiply_words<kPairs>(query, key[column], sums[row][column]);
    }
  } while (++step < steps);
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) store(scores + row * kSection + column * kLanes, sums[row][column]);
}

// Scores of kRows rows [kRows, kSection] for the keys `first` to `end`, whole vectors.
template <int kRows, bool kPairs>
void score_rows(const Shape& shape, const float* queries, const KeySection& keys, int first, int end, float* scores, Fetcher& fetcher) {
  const int steps = shape.score_steps;
  int column = first / kLanes;
  const int last = (end + kLanes - 1) / kLanes;
  for (; column + kBlockColumns <= last; column += kBlockColumns)
    score_columns<kRows, kBlockColumns, kPairs>(queries, steps, keys.columns + column, keys.column_stride, scores + column * kLanes, fetcher);
  if (column + 2 <= last) {
    score_columns<kRows, 2, kPairs>(queries, steps, keys.columns + column, keys.column_stride, scores + column * kLanes, fetcher);
    column += 2;
  }
  if (column < last)
    score_columns<kRows, 1, kPairs>(queries, steps, keys.columns + column, keys.column_stride, scores + column * kLanes, fetcher);
}

inline Ints lane_numbers() {
  Ints numbers;
  for (int lane = 0; lane < kLanes; ++lane) numbers[lane] = lane;
  return numbers;
}

// What scores are still to be multiplied with after finish_scores.
inline float late_scale(const AttentionCall& call) { return call.softcap > 0.0f ? 1.0f : call.scale; }

// softcap * tanh(score / softcap), and NaN where the score is infinite.
inline Floats cap(Floats score, float softcap) {
  return multiply_add(hyperbolic_tangent(score / splat(softcap)), splat(softcap), score * splat(0.0f));
}

// Caps the scores of a row for the keys `first` to `end`, whole vectors, and hides those that it does not see; the largest,
// times late_scale.
float finish_scores(const AttentionCall& call, float* scores, int first, int end, int first_seen, int end_seen) {
  const Floats hidden = splat(-__builtin_inff());
  const Ints lanes = lane_numbers();
  Floats largest = hidden;
  for (int column = first / kLanes * kLanes; column < end; column += kLanes) {
    Floats score = load(scores + column);
    if (call.softcap > 0.0f) score = cap(score * splat(call.scale), call.softcap);
    if (column < first_seen || column + kLanes > end_seen) {
      const Ints place = lanes + column;
      const Words is_seen = (Words)((place >= first_seen) & (place < end_seen));
      score = (Floats)(((Words)score & is_seen) | ((Words)hidden & ~is_seen));
      store(scores + column, score);
    } else if (call.softcap > 0.0f) {
      store(scores + column, score);
    }
    largest = maximum(largest, score);
  }
  return largest_lane(largest) * late_scale(call);
}

// Turns the scores of a row into weights, exact zeros where they are hidden; their sum. Where words are pairs they are rounded
// to bfloat16, packed at the start of the row, and summed as rounded.
template <bool kPairs>
float weigh_scores(float* scores, int first, int end, float scale, float highest) {
  Floats sum = {};
  for (int column = first / kLanes * kLanes; column < end; column += kLanes) {
    Floats weight = exponential(multiply_add(load(scores + column), splat(scale), splat(-highest)));
    if constexpr (kPairs) {
      BFloat16* target = (BFloat16*)scores + column;  // never past what was read
      store(target, weight);
      weight = load(target);
    } else {
      store(scores + column, weight);
    }
    sum = sum + weight;
  }
  return sum_lanes(sum);
}

// The sum of weights times values for kRows rows and kColumns vectors of the head, unit by unit, from the word `place`.
template <int kRows, int kColumns, bool kPairs>
inline void weigh_columns(const KeySection& keys, const float* weights, int first_unit, int end_unit, bool ends_in_half, int place,
                          int padded, float* output, Fetcher& fetcher) {
  Floats sums[kRows][kColumns];
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) sums[row][column] = splat(0.0f);
  const KnownWords known[4] = {
      KnownWords(keys.value_words - place),
      KnownWords(keys.value_words - place - kLanes),
      KnownWords(keys.value_words - place - 2 * kLanes),
      KnownWords(keys.value_words - place - 3 * kLanes),
  };
  const auto add = [&](const char* source, int unit, uint32_t kept) __attribute__((always_inline)) {
    Words value[kColumns];
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column) {
      value[column] = known[column].load(source + 4 * (place + column * kLanes)) & kept;
      hold(value[column]);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const Words weight = splat_word(weights + row * kSection + unit);
#pragma GCC unroll 4
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] = multiply_words<kPairs>(weight, value[column], sums[row][column]);
    }
  };
  const int end_whole = end_unit - ends_in_half;
  for (int unit = first_unit; unit < end_whole;) {
    const int end_group = unit / kUnitGroup * kUnitGroup + kUnitGroup, end = end_group < end_whole ? end_group : end_whole;
    const char* source = keys.value_of(unit);
    for (; unit < end; ++unit, source += keys.value_stride) {
      fetcher.fetch();
      add(source, unit, 0xffffffffu);
    }
  }
  if (ends_in_half) add(keys.value_of(end_unit - 1), end_unit - 1, 0xffffu);
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int column = 0; column < kColumns; ++column)
      store(output + (int64_t)row * padded + place + column * kLanes, sums[row][column]);
}

// The same for whole heads and the keys `first` to `end`.
template <int kRows, bool kPairs>
void weigh_rows(const Shape& shape, const KeySection& keys, const float* weights, int first, int end, float* output, Fetcher& fetcher) {
  const int first_unit = kPairs ? first / 2 : first, end_unit = kPairs ? (end + 1) / 2 : end;
  const bool ends_in_half = kPairs && end == keys.num_keys && end % 2 == 1 && end > first;
  int place = 0;
  for (; place + kBlockColumns * kLanes <= shape.padded; place += kBlockColumns * kLanes)
    weigh_columns<kRows, kBlockColumns, kPairs>(keys, weights, first_unit, end_unit, ends_in_half, place, shape.padded, output, fetcher);
  for (; place < shape.padded; place += kLanes)
    weigh_columns<kRows, 1, kPairs>(keys, weights, first_unit, end_unit, ends_in_half, place, shape.padded, output, fetcher);
}

// Attention of kRows rows of a tile, from `row` on, over a section.
template <int kRows, bool kPairs>
void attend_rows(const Shape& shape, const RowTile& tile, int row, const SeenKeys& section, const float* queries, const KeySection& keys,
                 float* scores, const Softmax& softmax, Fetcher& fetcher) {
  const int64_t window = shape.call->sliding_window;
  int first_seen[kRows], end_seen[kRows], first = kSection, end = 0;
  for (int inner = 0; inner < kRows; ++inner) {
    const int64_t position = tile.first_position + (row + inner) / shape.group - section.first_position;
    const int64_t first_visible = window > 0 && position - window + 1 > 0 ? position - window + 1 : 0;
    end_seen[inner] = position + 1 < section.end ? (int)(position + 1) : section.end;
    first_seen[inner] = first_visible < section.end ? (int)first_visible : section.end;
    if (first_seen[inner] < first) first = first_seen[inner];
    if (end_seen[inner] > end) end = end_seen[inner];
  }
  score_rows<kRows, kPairs>(shape, queries + (int64_t)row * shape.score_steps, keys, first, end, scores, fetcher);
  for (int inner = 0; inner < kRows; ++inner) {
    const float largest = finish_scores(*shape.call, scores + inner * kSection, first, end, first_seen[inner], end_seen[inner]);
    softmax.highest[row + inner] = largest > kNothingSeen ? largest : kNothingSeen;
  }
  for (int inner = 0; inner < kRows; ++inner)
    softmax.total[row + inner] =
        weigh_scores<kPairs>(scores + inner * kSection, first, end, late_scale(*shape.call), softmax.highest[row + inner]);
  weigh_rows<kRows, kPairs>(shape, keys, scores, first, end, softmax.output + (int64_t)row * shape.padded, fetcher);
}

template <int kRows>
void attend_rows(const Shape& shape, const RowTile& tile, int row, const SeenKeys& section, const float* queries, const KeySection& keys,
                 float* scores, const Softmax& softmax, Fetcher& fetcher) {
#if defined(__AVX512BF16__)
  if (shape.in_pairs) return attend_rows<kRows, true>(shape, tile, row, section, queries, keys, scores, softmax, fetcher);
#endif
  attend_rows<kRows, false>(shape, tile, row, section, queries, keys, scores, softmax, fetcher);
}

// All rows of a tile.
void attend_all_rows(const Shape& shape, const RowTile& tile, const SeenKeys& section, const float* queries, const KeySection& keys,
                     float* scores, const Softmax& softmax, Fetcher& fetcher) {
  int row = 0;
  for (; row + kBlockRows <= tile.num_rows; row += kBlockRows)
    attend_rows<kBlockRows>(shape, tile, row, section, queries, keys, scores, softmax, fetcher);
  switch (tile.num_rows - row) {
    case 5: return attend_rows<5>(shape, tile, row, section, queries, keys, scores, softmax, fetcher);
    case 4: return attend_rows<4>(shape, tile, row, section, queries, keys, scores, softmax, fetcher);
    case 3: return attend_rows<3>(shape, tile, row, section, queries, keys, scores, softmax, fetcher);
    case 2: return attend_rows<2>(shape, tile, row, section, queries, keys, scores, softmax, fetcher);
    case 1: return attend_rows<1>(shape, tile, row, section, queries, keys, scores, softmax, fetcher);
    default: return;
  }
}

// Joins a later section to what earlier ones made.
void join(const Shape& shape, int num_rows, const Softmax& earlier, const Softmax& later) {
  for (int row = 0; row < num_rows; ++row) {
    const float before = earlier.highest[row], found = later.highest[row], now = found > before ? found : before;
    float lanes[kLanes];
    store(lanes, exponential(splat(before - now)));
    const Floats keep = splat(lanes[0]);
    store(lanes, exponential(splat(found - now)));
    const Floats take = splat(lanes[0]);
    earlier.highest[row] = now;
    earlier.total[row] = multiply_add(splat(earlier.total[row]), keep, splat(later.total[row]) * take)[0];
    float* target = earlier.output + (int64_t)row * shape.padded;
    const float* source = later.output + (int64_t)row * shape.padded;
    for (int place = 0; place < shape.padded; place += kLanes)
      store(target + place, multiply_add(load(target + place), keep, load(source + place) * take));
  }
}

}  // namespace
