// Paged attention for one instruction set: how a step's rows are dealt out to threads; called by native.py.
//
// Knows nothing of layers. A row's result depends on its own query, its own context and nothing else: see attend_rows.h for
// what is computed, in sections of keys by absolute position, which are joined in order. Which rows share a tile, who computes
// a section, and on how many threads, changes who does the work and not what is added to what: multiplying by a weight or a
// correction of exactly 1, or adding exact zeros, changes nothing.

#include "yeoul/kernels/attention/attend_rows.h"

#include "yeoul/kernels/native/operation.h"

namespace {

constexpr int kTileRows = 48;            // rows (query times head of the group) that pass by the same keys
constexpr int64_t kSerialWork = 150000;  // multiplications below which waking a thread costs more than it saves
constexpr int64_t kFewUnits = 16;        // fewer than this, and sections of a long context are dealt out too

inline int64_t whole_lines(int64_t numbers) { return (numbers + 15) / 16 * 16; }

// What a thread works with: some softmaxes, packed queries, and scores of a block of rows.
struct Workspace {
  Softmax softmaxes[2];
  float *queries, *scores;

  Workspace(const Shape& shape, int num_rows) {
    static thread_local Scratch scratch;
    const int64_t row_numbers = whole_lines(num_rows), output = whole_lines((int64_t)num_rows * shape.padded);
    const int64_t num_queries = whole_lines((int64_t)num_rows * shape.query_words);
    float* next = scratch.at_least(2 * (2 * row_numbers + output) + num_queries + kBlockRows * kSection);
    for (Softmax& softmax : softmaxes) {
      softmax = Softmax{next, next + row_numbers, next + 2 * row_numbers};
      next += 2 * row_numbers + output;
    }
    queries = next;
    scores = queries + num_queries;
  }
};

// Packs the queries of a tile: [num_rows, query_words].
void pack_queries(const Shape& shape, const RowTile& tile, float* packed) {
  const AttentionCall& call = *shape.call;
  for (int row = 0; row < tile.num_rows; ++row) {
    const int64_t token = tile.first_token + row / shape.group, head = tile.kv_head * shape.group + row % shape.group;
    const char* source = address_of(call.query, token * call.query_stride + head * call.head_dim, call.query_type);
    float* target = packed + (int64_t)row * shape.query_words;
    if (shape.in_pairs) {
      __builtin_memcpy(target, source, (size_t)call.head_dim * 2);
      continue;
    }
    for (int place = 0; place < call.head_dim; place += kLanes) {
      const int count = lanes_left(call.head_dim, place);
      store_some(target + place, load_typed(source + place * bytes_of(call.query_type), call.query_type, count), count);
    }
  }
}

void write_output(const Shape& shape, const RowTile& tile, const Softmax& softmax) {
  const AttentionCall& call = *shape.call;
  for (int row = 0; row < tile.num_rows; ++row) {
    const int64_t token = tile.first_token + row / shape.group, head = tile.kv_head * shape.group + row % shape.group;
    char* target = address_of(call.output, token * call.output_stride + head * call.head_dim, call.query_type);
    const Floats total = splat(softmax.total[row]);
    for (int place = 0; place < call.head_dim; place += kLanes) {
      const int count = lanes_left(call.head_dim, place);
      const Floats value = load(softmax.output + (int64_t)row * shape.padded + place) / total;
      store_typed(target + place * bytes_of(call.query_type), call.query_type, value, count);
    }
  }
}

// `next` is what the thread computes afterwards, or null.
void attend_section(const Shape& shape, const RowTile& tile, const KeySection& section, const KeySection* next, const Workspace& space,
                    const Softmax& softmax) {
  Fetcher fetcher(shape, section, next);
#if defined(__AVX512BF16__)
  if (shape.in_pairs) return attend_all_rows<Pairs>(shape, tile, section, space.queries, space.scores, softmax, fetcher);
#endif
  if (shape.call->cache_type == kBFloat16)
    return attend_all_rows<Numbers<BFloat16>>(shape, tile, section, space.queries, space.scores, softmax, fetcher);
  attend_all_rows<Numbers<Float16>>(shape, tile, section, space.queries, space.scores, softmax, fetcher);
}

// All sections of a tile, joined. `next` is the thread's next tile, or null.
void attend_tile(const Shape& shape, const RowTile& tile, const RowTile* next) {
  const Workspace space(shape, tile.num_rows);
  pack_queries(shape, tile, space.queries);
  const int64_t first = first_section_of(shape, tile), last = last_section_of(tile);
  KeySection section(shape, tile, first);
  for (int64_t number = first; number <= last; ++number) {
    const bool is_last = number == last;
    const RowTile& following = is_last && next != nullptr ? *next : tile;
    const KeySection coming(shape, following, is_last ? first_section_of(shape, following) : number + 1);
    const Softmax& mine = space.softmaxes[number == first ? 0 : 1];
    attend_section(shape, tile, section, is_last && next == nullptr ? nullptr : &coming, space, mine);
    if (number != first) join(shape, tile.num_rows, space.softmaxes[0], mine);
    section = coming;
  }
  write_output(shape, tile, space.softmaxes[0]);
}

// A request's rows in tiles; the last may be smaller.
inline int queries_of_tile(const Shape& shape) { return kTileRows / shape.group > 1 ? kTileRows / shape.group : 1; }

inline int64_t tiles_of(const Shape& shape, int64_t num_tokens) {
  return (num_tokens + queries_of_tile(shape) - 1) / queries_of_tile(shape);
}

inline RowTile make_tile(const Shape& shape, int64_t request, int64_t kv_head, int64_t index) {
  const int64_t start = shape.batch->query_start[request], num_tokens = shape.batch->query_start[request + 1] - start;
  const int64_t first = index * queries_of_tile(shape);
  const int64_t left = num_tokens - first;
  const int num_queries = left < queries_of_tile(shape) ? (int)left : queries_of_tile(shape);
  const int64_t position = shape.batch->context_lengths[request] - num_tokens + first;
  return RowTile{request, kv_head, start + first, num_queries, num_queries * shape.group, position};
}

// How a step's rows are dealt out.
struct Work {
  int64_t num_tiles;     // of all requests, for one KV head
  int64_t num_sections;  // of the longest context
  bool by_section;       // a few decodes over long contexts: each section is a piece of work of its own
  bool is_small;
  bool is_decode;        // a token of each request

  Work(const Shape& shape) : num_tiles(0) {
    const AttentionCall& call = *shape.call;
    const BatchCall& batch = *shape.batch;
    int64_t multiplications = 0, longest = 0;
    for (int64_t request = 0; request < batch.num_requests; ++request) {
      const int64_t num_tokens = batch.query_start[request + 1] - batch.query_start[request];
      const int64_t context = batch.context_lengths[request];
      num_tiles += tiles_of(shape, num_tokens);
      multiplications += num_tokens * context * call.num_heads * call.head_dim * 2;
      longest = context > longest ? context : longest;
    }
    num_sections = (longest + kSection - 1) / kSection;
    is_decode = batch.query_start[batch.num_requests] == batch.num_requests;
    by_section = is_decode && num_sections > 1 && num_tiles * call.num_kv_heads < kFewUnits;
    is_small = multiplications <= kSerialWork;
  }
};

// What a section makes of a unit (a tile and a KV head), as numbers.
inline int64_t partial_size(const Shape& shape) {
  return 2 * whole_lines(shape.group) + whole_lines((int64_t)shape.group * shape.padded);
}

inline Softmax partial_at(const Shape& shape, float* partials, int64_t index) {
  float* mine = partials + index * partial_size(shape);
  return Softmax{mine, mine + whole_lines(shape.group), mine + 2 * whole_lines(shape.group)};
}

void attend_piece(const Shape& shape, int64_t unit, int64_t section, const Softmax& softmax) {
  const RowTile tile = make_tile(shape, unit / shape.call->num_kv_heads, unit % shape.call->num_kv_heads, 0);
  if (section < first_section_of(shape, tile) || section > last_section_of(tile)) return;
  const Workspace space(shape, tile.num_rows);
  pack_queries(shape, tile, space.queries);
  const bool is_last = section == last_section_of(tile);
  const KeySection keys(shape, tile, section), next(shape, tile, is_last ? section : section + 1);
  attend_section(shape, tile, keys, is_last ? nullptr : &next, space, softmax);
}

void join_pieces(const Shape& shape, int64_t unit, float* partials, int64_t num_sections) {
  const RowTile tile = make_tile(shape, unit / shape.call->num_kv_heads, unit % shape.call->num_kv_heads, 0);
  const int64_t first = first_section_of(shape, tile), last = last_section_of(tile);
  const Softmax softmax = partial_at(shape, partials, unit * num_sections + first);
  for (int64_t section = first + 1; section <= last; ++section)
    join(shape, tile.num_rows, softmax, partial_at(shape, partials, unit * num_sections + section));
  write_output(shape, tile, softmax);
}

// Sections are dealt out, and joined in order afterwards.
void attend_in_sections(const Shape& shape, const Work& work, Team& team) {
  float* partials = (float*)team.room;
  const int64_t num_units = work.num_tiles * shape.call->num_kv_heads;
  team.share(num_units * work.num_sections, 1, [&](int64_t piece, int64_t end) {
    for (; piece < end; ++piece)
      attend_piece(shape, piece / work.num_sections, piece % work.num_sections, partial_at(shape, partials, piece));
  });
  team.share(num_units, num_units, [&](int64_t unit, int64_t end) {
    for (; unit < end; ++unit) join_pieces(shape, unit, partials, work.num_sections);
  });
}

// Walks through the tiles of a step, numbered through all requests, the KV heads of a tile one after the other.
class Tiles {
 public:
  explicit Tiles(const Shape& shape) : shape_(shape), request_(0), first_(0) {}

  // The tile of a unit; units are asked for in rising order.
  RowTile of(int64_t unit) {
    const int64_t num_kv_heads = shape_.call->num_kv_heads;
    for (;; ++request_) {
      const int64_t tiles = tiles_of(shape_, shape_.batch->query_start[request_ + 1] - shape_.batch->query_start[request_]);
      if (unit / num_kv_heads < first_ + tiles) break;
      first_ += tiles;
    }
    return make_tile(shape_, request_, unit % num_kv_heads, unit / num_kv_heads - first_);
  }

 private:
  const Shape& shape_;
  int64_t request_, first_;  // the number of the request's first tile
};

void attend_units(const Shape& shape, int64_t unit, int64_t end) {
  Tiles tiles(shape);
  RowTile tile = tiles.of(unit);
  for (; unit + 1 < end; ++unit) {
    const RowTile next = tiles.of(unit + 1);
    attend_tile(shape, tile, &next);
    tile = next;
  }
  attend_tile(shape, tile, nullptr);
}

Shape shape_of(const AttentionCall& call) {
  Shape shape{&call, call.batch, (int)(call.num_heads / call.num_kv_heads), 0, (int)call.head_dim, false};
  shape.padded = ((int)call.head_dim + kLanes - 1) / kLanes * kLanes;
#if defined(__AVX512BF16__)
  shape.in_pairs = call.query_type == kBFloat16 && call.cache_type == kBFloat16;
  if (shape.in_pairs) shape.query_words = (int)call.head_dim / 2;
#endif
  return shape;
}

Plan plan_attention(const AttentionCall& call) {
  const Shape shape = shape_of(call);
  const Work work(shape);
  const int64_t num_partials = work.by_section ? work.num_tiles * call.num_kv_heads * work.num_sections : 0;
  return {work.is_small, num_partials * partial_size(shape) * (int64_t)sizeof(float)};
}

void run_attention(const AttentionCall& call, Team& team) {
  const Shape shape = shape_of(call);
  const Work work(shape);
  if (work.by_section) return attend_in_sections(shape, work, team);
  // Decodes are alike; of a prompt's tiles the later ones take longer.
  const int64_t num_units = work.num_tiles * call.num_kv_heads, fair = num_units / ((work.is_decode ? 4 : 16) * team.size);
  team.share(num_units, fair > 1 ? fair : 1, [&](int64_t unit, int64_t end) { attend_units(shape, unit, end); });
}

}  // namespace

YEOUL_OPERATION(paged_attention, AttentionCall, plan_attention, run_attention)
