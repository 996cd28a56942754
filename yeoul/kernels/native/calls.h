// What crosses from Python into the native operations; knows nothing of how they compute.
//
// Python fills these structures once for many calls (see calls.py, which must agree). All addresses are of contiguous memory
// unless a stride is named; strides count numbers, not bytes. num_rows comes first everywhere, see operation.h.

#pragma once

#include <stdint.h>

#include "yeoul/kernels/packed_linear/packed_format.h"

// values += addend, rounded to the type, where there is an addend; output = norm(values).
struct RmsNormCall {
  int64_t num_rows;
  int64_t size;
  const float* weight;
  void* values;
  const void* addend;
  void* output;
  float epsilon;
  int32_t type;
};

// output = activation(gate) * up for rows [gate, up] of 2 * size numbers.
struct GateCall {
  int64_t num_rows;
  int64_t size;
  const void* gate_and_up;
  void* output;
  int32_t kind;
  int32_t type;
};

// input [num_rows, size] times the segments, plus bias [output_size] or null, to output [num_rows, output_size]. A norm or a
// gate, or null, makes the input's rows, each just before it is read.
struct PackedLinearCall {
  int64_t num_rows;
  int64_t size;
  int64_t output_size;
  const Segment* segments;
  int64_t num_segments;
  const RmsNormCall* norm;
  const GateCall* gate;
  const void* input;
  const float* bias;
  void* output;
  int32_t input_type;
  int32_t output_type;
};

// The shape of a step: the same for all layers.
struct BatchCall {
  const int32_t* query_start;      // [num_requests + 1]
  const int32_t* context_lengths;  // [num_requests]
  const int32_t* block_tables;     // [num_requests, table_stride]
  int64_t table_stride;
  int64_t num_requests;
};

// A layer's attention over its cache [2, num_blocks, num_kv_heads, block_size, head_dim] of 16-bit numbers, whose last three
// dimensions are contiguous; how a block's numbers lie, see native/cache_layout.h.
struct AttentionCall {
  int64_t num_rows;
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t part_stride;   // from the keys of a block to its values
  int64_t block_stride;  // from a block to the next
  int64_t block_size;
  int64_t query_stride;   // from one token's query to the next
  int64_t output_stride;  // from one token's output to the next
  int64_t sliding_window;
  const BatchCall* batch;
  const void* query;
  const void* cache;
  void* output;
  float scale;
  float softcap;  // 0: none
  int32_t query_type;
  int32_t cache_type;
};

// A layer's heads after projection, rotated in place; keys and values go to the cache, see AttentionCall.
struct RotaryCall {
  int64_t num_rows;
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t part_stride;
  int64_t block_stride;
  int64_t block_size;
  int64_t heads_stride;       // from one token's heads (queries, keys, values) to the next
  const float* query_weight;  // [head_dim] of the norm on each query head, or null
  const float* key_weight;    // [head_dim], null together with query_weight
  void* heads;
  const float* cosines;  // [num_rows, head_dim / 2]
  const float* sines;
  const int64_t* slots;  // [num_rows]
  void* cache;
  float epsilon;
  int32_t heads_type;
  int32_t cache_type;
};

// How a row's token is chosen; the same as SAMPLING_ROW in sampling/sampling_rows.py, which says what the fields mean.
struct SamplingRow {
  uint64_t seed;
  uint32_t choice_index;
  uint32_t position;
  int32_t top_k;
  float temperature;
  float top_p;
  float min_p;
};

// logits [num_rows, size]; a token and the highest logit a row. masks [num_rows, ceil(size / 32)], or null, have a bit for each
// token that a row may become.
struct SampleCall {
  int64_t num_rows;
  int64_t size;
  const float* logits;
  const SamplingRow* rows;
  int64_t* token_ids;
  float* highest;
  const uint32_t* masks;
};

struct Exchange;  // see exchange/exchange.h

// This rank's rows [num_rows, size]. Where `sizes` is null, output [num_rows, size] is the sum over all ranks, in rank order, in
// float32, rounded to the type once. Otherwise rank r has rows of sizes[r] numbers, and output rows are all of them side by side.
struct ExchangeCall {
  int64_t num_rows;
  int64_t size;
  Exchange* exchange;
  const int64_t* sizes;
  const void* input;
  void* output;
  int64_t first;  // the number of this call's first piece; set when it is planned
  int32_t type;
};
