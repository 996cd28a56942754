// The keys and values of a section of a request's context, as the inner loops of attention read them.
//
// Knows nothing of scores or threads. What is multiplied at once is a word: a float, or a pair of bfloat16 where the
// processor multiplies those. A paired cache (see native/cache_layout.h) is then read where it lies; any other is packed.

#pragma once

#include "yeoul/kernels/native/cache_layout.h"
#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

#if defined(__AVX512F__)
constexpr int kSection = 256;
#else
constexpr int kSection = 128;  // packed as floats it should fit into a small second cache
#endif
constexpr int kKeyTile = 64;  // keys that are packed together
static_assert(kSection % kKeyTile == 0 && kKeyTile % kLanes == 0 && kKeyTile % kGroupKeys == 0, "sections are whole tiles");

struct Shape {
  const AttentionCall* call;
  const BatchCall* batch;
  int group;        // query heads to a KV head
  int padded;       // words of a packed value: head_dim filled up to whole vectors
  int score_steps;  // words of a query and of a key
  bool in_pairs;    // words are pairs of bfloat16
};

// Rows of one request and one KV head that are computed together.
struct RowTile {
  int64_t request, kv_head, first_token;  // the first row's token in the step
  int num_queries, num_rows;              // num_rows = num_queries * group
  int64_t first_position;                 // of the first query

  int64_t last_position() const { return first_position + num_queries - 1; }
};

// The first key that any row of a tile sees, and the sections that its rows see something of.
inline int64_t first_key_of(const Shape& shape, const RowTile& tile) {
  const int64_t first = tile.first_position - shape.call->sliding_window + 1;
  return shape.call->sliding_window > 0 && first > 0 ? first : 0;
}
inline int64_t first_section_of(const Shape& shape, const RowTile& tile) { return first_key_of(shape, tile) / kSection; }
inline int64_t last_section_of(const RowTile& tile) { return tile.last_position() / kSection; }

// Which keys of a section a tile's rows see, counted from the section's first.
struct SeenKeys {
  int64_t first_position;  // of the section's first key
  int first, end;

  SeenKeys(const Shape& shape, const RowTile& tile, int64_t section) : first_position(section * kSection) {
    const int64_t seen = first_key_of(shape, tile) - first_position, known = tile.last_position() + 1 - first_position;
    first = seen > 0 ? (int)seen : 0;
    end = known < kSection ? (int)known : kSection;
  }
};

inline const char* block_address(const AttentionCall& call, int64_t part, int64_t block, int64_t kv_head) {
  return address_of(call.cache, part * call.part_stride + block * call.block_stride + kv_head * call.block_size * call.head_dim,
                    call.cache_type);
}

// Memory that is wanted soon, asked for a few lines at a time while something else is computed: blocks of a cache lie
// anywhere, which no processor foresees. The values of a section are fetched while its keys are scored, and the keys of what
// the thread computes next while these values are weighed.
class Fetcher {
 public:
  Fetcher(const AttentionCall& call)
      : call_(call), num_blocks_(0), next_(0), at_(nullptr), end_(nullptr),
        block_bytes_(call.block_size * call.head_dim * bytes_of(call.cache_type)) {}

  // Adds the keys (part 0) or values (1) that a tile sees of a section.
  void add(const Shape& shape, const RowTile& tile, int64_t section, int64_t part) {
    const SeenKeys keys(shape, tile, section);
    const int32_t* table = shape.batch->block_tables + tile.request * shape.batch->table_stride;
    int64_t block = (keys.first_position + keys.first) / call_.block_size;
    for (; block * call_.block_size < keys.first_position + keys.end && num_blocks_ < kMostBlocks; ++block)
      blocks_[num_blocks_++] = block_address(call_, part, table[block], tile.kv_head);
  }

  // Asks for the next four lines into the second cache.
  inline void fetch() {
    if (at_ >= end_) {
      if (next_ == num_blocks_) return;
      at_ = blocks_[next_++];
      end_ = at_ + block_bytes_;
    }
    for (int line = 0; line < 4; ++line) __builtin_prefetch(at_ + 64 * line, 0, 2);
    at_ += 256;
  }

 private:
  static constexpr int kMostBlocks = 2 * (kSection / kGroupKeys + 1);  // of fewer tokens than a group: the first ones
  const AttentionCall& call_;
  int num_blocks_, next_;
  const char *at_, *end_;
  int64_t block_bytes_;
  const char* blocks_[kMostBlocks];
};

constexpr int kUnitGroup = kGroupKeys / 2;  // units that lie one after the other, whether units are keys or pairs

// A section as the inner loops read it. A unit is a key, or a pair of keys where words are pairs.
struct KeySection {
  const float* columns[kSection / kLanes];   // of kLanes keys each: their first words side by side, then their second
  int64_t column_stride;                     // from a word of a column to the next
  const char* values[kSection / kUnitGroup];  // of each group of units
  int64_t value_stride;                      // bytes from a unit to the next
  int value_words;                           // that may be read of each of them
  int num_keys;                              // of the section's first ones; the half of a pair behind them may be anything

  const char* value_of(int unit) const { return values[unit / kUnitGroup] + unit % kUnitGroup * value_stride; }
};

// Where a thread packs a section that cannot be read where it lies.
struct SectionMemory {
  float *keys, *values;

  static int64_t numbers_of_keys(const Shape& shape) { return (int64_t)shape.score_steps * kSection; }
  static int64_t numbers_of_values(const Shape& shape) { return (int64_t)kSection * shape.padded; }
};

// Calls visit(key, address) for the keys `first` to `end` of a section, or for their values if part is 1.
template <class Visit>
inline void visit_keys(const Shape& shape, const RowTile& tile, const SeenKeys& section, int part, int first, int end, Visit visit) {
  const AttentionCall& call = *shape.call;
  const int64_t row_bytes = call.head_dim * bytes_of(call.cache_type), position = section.first_position + first;
  const int32_t* table = shape.batch->block_tables + tile.request * shape.batch->table_stride + position / call.block_size;
  int64_t offset = position % call.block_size;
  for (int key = first; key < end; ++table, offset = 0) {
    const char* block = block_address(call, part, *table, tile.kv_head);
    for (; offset < call.block_size && key < end; ++offset, ++key) visit(key, block + offset * row_bytes);
  }
}

// Packs the keys of a tile, one column a key: [steps, kKeyTile] words; columns without a key are zero.
template <class Number>
void pack_keys(const char* const* keys, int steps, float* packed) {
  for (int column = 0; column < kKeyTile; column += kLanes)
    for (int step = 0; step < steps; step += kLanes) {
      const int count = lanes_left(steps, step);
      Floats square[kLanes];
      for (int lane = 0; lane < kLanes; ++lane)
        square[lane] = keys[column + lane] != nullptr ? load_some((const Number*)keys[column + lane] + step, count) : Floats{};
      transpose(square);
      for (int line = 0; line < count; ++line) store(packed + (step + line) * kKeyTile + column, square[line]);
    }
}

// The same from paired blocks, whose groups of 16 keys begin where their first key does, to floats.
void pack_paired_keys(const char* const* keys, int64_t head_dim, float* packed) {
  for (int first = 0; first < kKeyTile && keys[first] != nullptr; first += (int)kGroupKeys)
    for (int64_t pair = 0; pair < head_dim / 2; ++pair)
      for (int lane = 0; lane < kGroupKeys; lane += kLanes) {
        Words words;
        __builtin_memcpy(&words, keys[first] + 4 * (pair * kGroupKeys + lane), sizeof words);
        store(packed + 2 * pair * kKeyTile + first + lane, (Floats)(words << 16));
        store(packed + (2 * pair + 1) * kKeyTile + first + lane, (Floats)(words & 0xffff0000u));
      }
}

// Packs a value as floats, zeros past head_dim.
template <class Number>
inline void pack_value(const char* value, int head_dim, int padded, float* packed) {
  for (int place = 0; place < padded; place += kLanes)
    store(packed + place, load_some((const Number*)value + place, lanes_left(head_dim, place)));
}

// The same for one of a pair (0 or 1) of values in a paired block, whose pair begins at `pair`.
inline void pack_paired_value(const char* pair, int half, int head_dim, int padded, float* packed) {
  for (int place = 0; place < padded; place += kLanes) {
    Words words = {};
    const int count = head_dim - place < kLanes ? head_dim - place : kLanes;
    if (count > 0) __builtin_memcpy(&words, pair + 4 * place, 4 * (size_t)count);
    store(packed + place, (Floats)(half == 0 ? words << 16 : words & 0xffff0000u));
  }
}

#if defined(__AVX512BF16__)
// Packs the values of two keys as pairs, zeros past head_dim; `second` may be null: zeros.
inline void pack_pair_of_values(const char* first, const char* second, int head_dim, int padded, float* packed) {
  const __m512i step = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i low = _mm512_or_si512(step, _mm512_slli_epi32(_mm512_add_epi32(step, _mm512_set1_epi32(32)), 16));
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int place = 0; place < padded; place += 32) {
    const int count = head_dim - place;
    const __mmask32 some = count >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << count) - 1;
    const __m512i numbers = _mm512_maskz_loadu_epi16(some, first + 2 * place);
    const __m512i others = second != nullptr ? _mm512_maskz_loadu_epi16(some, second + 2 * place) : _mm512_setzero_si512();
    _mm512_storeu_si512(packed + place, _mm512_permutex2var_epi16(numbers, low, others));
    _mm512_storeu_si512(packed + place + 16, _mm512_permutex2var_epi16(numbers, high, others));
  }
}
#endif

// Calls visit(key, address) for the groups of 16 keys of a paired cache that are in part before `end`.
template <class Visit>
inline void visit_groups(const Shape& shape, const RowTile& tile, const SeenKeys& section, int part, Visit visit) {
  const AttentionCall& call = *shape.call;
  const int64_t group_bytes = kGroupKeys * call.head_dim * 2;
  int64_t key = section.first / kGroupKeys * kGroupKeys;
  const int64_t position = section.first_position + key;
  const int32_t* table = shape.batch->block_tables + tile.request * shape.batch->table_stride + position / call.block_size;
  int64_t group = position % call.block_size / kGroupKeys;
  for (; key < section.end; ++table, group = 0) {
    const char* block = block_address(call, part, *table, tile.kv_head);
    for (; group < call.block_size / kGroupKeys && key < section.end; ++group, key += kGroupKeys) visit(key, block + group * group_bytes);
  }
}

#if defined(__AVX512BF16__)
// Keys and values that are read where they lie; a vector of keys is a group.
void find_section(const Shape& shape, const RowTile& tile, const SeenKeys& seen, KeySection& section) {
  visit_groups(shape, tile, seen, 0, [&](int64_t key, const char* group) { section.columns[key / kLanes] = (const float*)group; });
  section.column_stride = kGroupKeys;
  visit_groups(shape, tile, seen, 1, [&](int64_t key, const char* group) { section.values[key / kGroupKeys] = group; });
  section.value_stride = 4 * shape.call->head_dim;
  section.value_words = (int)shape.call->head_dim;
}
#endif

void pack_section_keys(const Shape& shape, const RowTile& tile, const SeenKeys& seen, float* memory, KeySection& section) {
  const AttentionCall& call = *shape.call;
  section.column_stride = kKeyTile;
  for (int first = seen.first / kKeyTile * kKeyTile; first < seen.end; first += kKeyTile) {
    const char* keys[kKeyTile] = {};
    const int end = first + kKeyTile < seen.end ? first + kKeyTile : seen.end;
    visit_keys(shape, tile, seen, 0, first, end, [&](int key, const char* place) { keys[key - first] = place; });
    float* packed = memory + (int64_t)first * shape.score_steps;
    for (int column = 0; column < kKeyTile; column += kLanes) section.columns[(first + column) / kLanes] = packed + column;
    if (shape.in_pairs) {
      pack_keys<float>(keys, shape.score_steps, packed);  // a pair travels as one word
    } else if (call.is_paired) {
      pack_paired_keys(keys, call.head_dim, packed);
    } else {
      with_number_type(call.cache_type, [&](auto number) { pack_keys<decltype(number)>(keys, shape.score_steps, packed); });
    }
  }
}

void pack_section_values(const Shape& shape, const RowTile& tile, const SeenKeys& seen, float* memory, KeySection& section) {
  const AttentionCall& call = *shape.call;
  const int head_dim = (int)call.head_dim, padded = shape.padded;
  const int first = seen.first / 2 * 2;  // pairs are whole
  section.value_words = padded;
  section.value_stride = 4 * padded;
  for (int group = 0; group < kSection / kUnitGroup; ++group)
    section.values[group] = (const char*)(memory + (int64_t)group * kUnitGroup * padded);
  const char* before = nullptr;  // the first of a pair
#if defined(__AVX512BF16__)
  if (shape.in_pairs) {
    visit_keys(shape, tile, seen, 1, first, seen.end, [&](int key, const char* value) {
      float* packed = memory + (int64_t)(key / 2) * padded;
      if (key % 2 == 1) {
        pack_pair_of_values(before, value, head_dim, padded, packed);
      } else if (key + 1 == seen.end) {
        pack_pair_of_values(value, nullptr, head_dim, padded, packed);
      }
      before = value;
    });
    return;
  }
#endif
  with_number_type(call.cache_type, [&](auto number) {
    visit_keys(shape, tile, seen, 1, first, seen.end, [&](int key, const char* value) {
      float* packed = memory + (int64_t)key * padded;
      if (key % 2 == 0) before = value;
      if (call.is_paired) {
        pack_paired_value(before, key % 2, head_dim, padded, packed);
      } else {
        pack_value<decltype(number)>(value, head_dim, padded, packed);
      }
    });
  });
}

// A section's keys and values, where they lie or packed.
void lay_out_section(const Shape& shape, const RowTile& tile, const SeenKeys& seen, const SectionMemory& memory, KeySection& section) {
  section.num_keys = seen.end;
#if defined(__AVX512BF16__)
  if (shape.in_pairs && shape.call->is_paired) return find_section(shape, tile, seen, section);
#endif
  pack_section_keys(shape, tile, seen, memory.keys, section);
  pack_section_values(shape, tile, seen, memory.values, section);
}

}  // namespace
