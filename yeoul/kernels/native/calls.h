// What crosses from Python into the operations whose shape takes many numbers; knows nothing of how they compute.
//
// Python fills these structures once for many calls (see calls.py, which must agree). All
// addresses are of contiguous memory unless a stride is named; strides count numbers, not bytes.

#pragma once

#include <stdint.h>

// The shape of a step: the same for all layers.
struct BatchCall {
  const int32_t* query_start;      // [num_requests + 1]
  const int32_t* context_lengths;  // [num_requests]
  const int32_t* block_tables;     // [num_requests, table_stride]
  int64_t table_stride;
  int64_t num_requests;
};

// The shape of a layer's attention and of its cache [2, num_blocks, num_kv_heads, block_size, head_dim].
struct AttentionCall {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t num_blocks;
  int64_t block_size;
  int64_t query_stride;   // from one token's query to the next
  int64_t output_stride;  // from one token's output to the next
  int64_t sliding_window;
  float scale;
  float softcap;  // 0: none
  int32_t query_type;
  int32_t cache_type;
};

// A layer's heads after projection, rotated in place; keys and values go to the cache.
struct RotaryCall {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  int64_t num_blocks;
  int64_t block_size;
  int64_t heads_stride;       // from one token's heads (queries, keys, values) to the next
  const float* query_weight;  // [head_dim] of the norm on each query head, or null
  const float* key_weight;    // [head_dim], null together with query_weight
  float epsilon;
  int32_t heads_type;
  int32_t cache_type;
};
