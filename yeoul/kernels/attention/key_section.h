// The keys and values of a section of a request's context: which of them some rows see, and where they lie in the cache.
//
// Knows nothing of scores or threads. Caches are paired (see native/cache_layout.h) and read where they lie.

#pragma once

#include "yeoul/kernels/native/cache_layout.h"
#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

constexpr int kSection = 256;
constexpr int kGroups = kSection / kGroupKeys;
constexpr int kPairBytes = 4;

struct Shape {
  const AttentionCall* call;
  const BatchCall* batch;
  int group;        // query heads to a KV head
  int padded;       // numbers of an output: head_dim filled up to whole vectors
  int query_words;  // of 4 bytes: pairs of bfloat16, or floats
  bool in_pairs;    // pairs are multiplied with pairs
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

// A section as a tile's rows see it. Keys are counted from its first; those before `first` and from `end` on nobody sees.
struct KeySection {
  int64_t first_position;
  int first, end;
  const char *keys[kGroups], *values[kGroups];  // of each group of 16 keys that somebody sees

  KeySection(const Shape& shape, const RowTile& tile, int64_t number) : first_position(number * kSection) {
    const AttentionCall& call = *shape.call;
    const int64_t seen = first_key_of(shape, tile) - first_position, known = tile.last_position() + 1 - first_position;
    first = seen > 0 ? (int)seen : 0;
    end = known < kSection ? (int)known : kSection;
    const int64_t position = (first_position + first) / kGroupKeys * kGroupKeys, key_bytes = 2 * call.head_dim;
    const int32_t* table = shape.batch->block_tables + tile.request * shape.batch->table_stride + position / call.block_size;
    int64_t offset = position % call.block_size;
    for (int group = first / kGroupKeys; group * kGroupKeys < end; ++table, offset = 0) {
      const char* block = (const char*)call.cache + 2 * *table * call.block_stride + tile.kv_head * call.block_size * key_bytes;
      for (; offset < call.block_size && group * kGroupKeys < end; offset += kGroupKeys, ++group) {
        keys[group] = block + offset * key_bytes;
        values[group] = keys[group] + 2 * call.part_stride;
      }
    }
  }
};

// Memory that is wanted soon, asked for a few lines at a time while something else is computed: blocks of a cache lie
// anywhere, which no processor foresees. The values of a section are fetched while its keys are scored, and the keys of what
// the thread computes next while these values are weighed.
class Fetcher {
 public:
  // `next` is what is computed afterwards, or null.
  Fetcher(const Shape& shape, const KeySection& section, const KeySection* next) : group_bytes_(kGroupKeys * 2 * shape.call->head_dim) {
    add(section, section.values);
    if (next != nullptr) add(*next, next->keys);
  }

  // Asks for the next four lines into the second cache.
  inline void fetch() {
    if (at_ >= end_) {
      if (next_ == num_groups_) return;
      at_ = groups_[next_++];
      end_ = at_ + group_bytes_;
    }
    for (int line = 0; line < 4; ++line) __builtin_prefetch(at_ + 64 * line, 0, 2);
    at_ += 256;
  }

 private:
  void add(const KeySection& section, const char* const* groups) {
    for (int group = section.first / kGroupKeys; group * kGroupKeys < section.end; ++group) groups_[num_groups_++] = groups[group];
  }

  int num_groups_ = 0, next_ = 0;
  const char *at_ = nullptr, *end_ = nullptr;
  int64_t group_bytes_;
  const char* groups_[2 * kGroups];
};

}  // namespace
