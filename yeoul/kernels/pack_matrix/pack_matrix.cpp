// GGUF's blocks to the packed form and packed rows back to numbers; called by native.py.
//
// What a file has with 4 bits stays codes of 4 bits. 192 weights of a row get a scale, their largest over 127, and the steps
// and starts of their blocks are rounded to 1/256 of that: what a code stands for is the nearest number of 8 bits. Codes of more bits become
// numbers with a scale for each 32: exactly what the file has, unless it has scales for 16 or minimums.
//
// The block types are those of ggml (ggml-common.h); see also dequantize/reference.py.

#include <stdlib.h>

#include "yeoul/kernels/native/export.h"
#include "yeoul/kernels/native/numbers.h"
#include "yeoul/kernels/packed_linear/packed_format.h"

namespace {

// The same as BlockType in packed_matrix.py.
enum BlockType : int { kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K };

inline float half_at(const uint8_t* bytes) {
  Float16 numbers[kLanes] = {};
  __builtin_memcpy(&numbers[0], bytes, 2);
  return load(numbers)[0];
}

// Where a block of a row is read to: codes, and a scale and a minimum for each 16 or 32 of them.
struct Block {
  uint8_t* codes;
  float* scales;
  float* minimums;
};

int inputs_of(int type) { return type < kQ2_K ? 32 : 256; }

int bytes_of(int type) {
  constexpr int kBytes[] = {18, 20, 22, 24, 34, 84, 110, 144, 176, 210};
  return kBytes[type];
}

void read_nibbles(const uint8_t* packed, const uint8_t* high, int base, uint8_t* codes) {
  uint32_t bits = 0;
  if (high != nullptr) __builtin_memcpy(&bits, high, 4);
  for (int i = 0; i < 16; ++i) {
    codes[i] = (uint8_t)((packed[i] & 15) + ((bits >> i & 1) << 4) + base);
    codes[i + 16] = (uint8_t)((packed[i] >> 4) + ((bits >> (i + 16) & 1) << 4) + base);
  }
}

// The 6-bit scale and minimum of sub-block `index` of Q4_K and Q5_K.
void six_bit_pair(const uint8_t* packed, int index, int* scale, int* minimum) {
  if (index < 4) {
    *scale = packed[index] & 63;
    *minimum = packed[index + 4] & 63;
  } else {
    *scale = (packed[index + 4] & 15) | (packed[index - 4] >> 6 << 4);
    *minimum = (packed[index + 4] >> 4) | (packed[index] >> 6 << 4);
  }
}

void read_q2(const uint8_t* b, const Block& block) {
  const float scale = half_at(b + 80), minimum = half_at(b + 82);
  for (int i = 0; i < 16; ++i) {
    block.scales[i] = scale * (float)(b[i] & 15);
    block.minimums[i] = -(minimum * (float)(b[i] >> 4));
  }
  for (int i = 0; i < 256; ++i) block.codes[i] = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

void read_q3(const uint8_t* b, const Block& block) {
  const float scale = half_at(b + 108);
  const uint8_t* packed = b + 96;
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4, high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
    block.scales[i] = scale * (float)((low | high << 4) - 32);
  }
  for (int i = 0; i < 256; ++i) {
    const int two_bits = b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3, third = b[i % 32] >> (i / 32) & 1;
    block.codes[i] = (uint8_t)(two_bits + 4 * third + 4);
  }
}

void read_q4(const uint8_t* b, const uint8_t* fifth, const uint8_t* packed, const Block& block) {
  const float scale = half_at(b), minimum = half_at(b + 2);
  for (int i = 0; i < 8; ++i) {
    int six_bit_scale, six_bit_minimum;
    six_bit_pair(b + 4, i, &six_bit_scale, &six_bit_minimum);
    block.scales[i] = scale * (float)six_bit_scale;
    block.minimums[i] = -(minimum * (float)six_bit_minimum);
    for (int j = 0; j < 32; ++j) {
      const int high = fifth != nullptr ? (fifth[j] >> i & 1) << 4 : 0;
      block.codes[i * 32 + j] = (uint8_t)((packed[i / 2 * 32 + j] >> (i % 2 * 4) & 15) + high);
    }
  }
}

void read_q6(const uint8_t* b, const Block& block) {
  const float scale = half_at(b + 208);
  for (int i = 0; i < 16; ++i) block.scales[i] = scale * (float)(int8_t)b[192 + i];
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, place = i % 128;
    const int low = b[half * 64 + place % 64] >> (place / 64 * 4) & 15;
    const int high = b[128 + half * 32 + place % 32] >> (place / 32 * 2) & 3;
    block.codes[i] = (uint8_t)((low | high << 4) - 32 + 128);
  }
}

void read_block(int type, const uint8_t* b, const Block& block) {
  switch (type) {
    case kQ2_K: return read_q2(b, block);
    case kQ3_K: return read_q3(b, block);
    case kQ4_K: return read_q4(b, nullptr, b + 16, block);
    case kQ5_K: return read_q4(b, b + 16, b + 48, block);
    case kQ6_K: return read_q6(b, block);
  }
  block.scales[0] = half_at(b);
  switch (type) {
    case kQ4_0: return read_nibbles(b + 2, nullptr, 0, block.codes);
    case kQ4_1: block.minimums[0] = half_at(b + 2); return read_nibbles(b + 4, nullptr, 0, block.codes);
    case kQ5_0: return read_nibbles(b + 6, b + 2, 128 - 16, block.codes);
    case kQ5_1: block.minimums[0] = half_at(b + 2); return read_nibbles(b + 8, b + 4, 0, block.codes);
    case kQ8_0:
      for (int i = 0; i < 32; ++i) block.codes[i] = b[2 + i] ^ 0x80;
  }
}

// How many codes share a scale.
int inputs_of_scale(int type) { return type == kQ2_K || type == kQ3_K || type == kQ6_K ? 16 : 32; }

bool has_minimums(int type) {
  return type == kQ4_1 || type == kQ5_1 || type == kQ2_K || type == kQ4_K || type == kQ5_K;
}

// The nearest integer, ties to even; numbers beyond what is asked for stop at it.
inline int32_t nearest(float number, float limit) {
  const float bounded = number < -limit ? -limit : number > limit ? limit : number == number ? number : 0.0f;
  const float shifter = 12582912.0f;  // 1.5 * 2^23
  return (int32_t)(as_bits(bounded + shifter) - as_bits(shifter));
}

// A row of a matrix as its file has it.
struct StoredRow {
  int64_t num_inputs;
  int scale_inputs;
  float zero;  // the code of a weight that is 0, where there are no minimums
  uint8_t* codes;
  float* scales;
  float* minimums;  // zeros where the type has none

  float weight(int64_t input, int64_t part) const { return scales[part] * ((float)codes[input] - zero) + minimums[part]; }

  // Of the weights `first` to `end`, which are whole parts.
  float largest(int64_t first, int64_t end) const {
    float found = 0.0f;
    for (int64_t part = first / scale_inputs; part < end / scale_inputs; ++part)
      for (int64_t input = part * scale_inputs; input < (part + 1) * scale_inputs; ++input) {
        const float size = __builtin_fabsf(weight(input, part));
        found = size > found ? size : found;
      }
    return found;
  }
};

// Integers would hide a NaN.
bool are_finite(const float* numbers, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (!(__builtin_fabsf(numbers[i]) < __builtin_inff())) return false;
  return true;
}

// Where an output's numbers go in the blocks of a tile.
inline void put_group(uint8_t* block, int64_t group, int output, uint32_t numbers) {
  __builtin_memcpy(block + group * kGroupBytes + output * kGroupInputs, &numbers, kGroupInputs);
}

inline uint32_t four_at(const uint8_t* bytes) {
  uint32_t four;
  __builtin_memcpy(&four, bytes, 4);
  return four;
}

inline float as_half(float value, uint8_t* place) {
  Float16 numbers[kLanes];
  store(numbers, splat(value));
  __builtin_memcpy(place, numbers, 2);
  return half_at(place);
}

// Quantises 32 weights anew, to numbers with one scale, which is written to place as a share of `largest`.
void quantize_again(const StoredRow& row, int64_t first, float largest, uint8_t* place) {
  float weights[32], limit = 0.0f;
  for (int i = 0; i < 32; ++i) {
    weights[i] = row.weight(first + i, (first + i) / row.scale_inputs);
    limit = __builtin_fabsf(weights[i]) > limit ? __builtin_fabsf(weights[i]) : limit;
  }
  const float scale = as_half(largest > 0.0f ? limit / 127.0f / largest : 0.0f, place) * largest;
  for (int i = 0; i < 32; ++i) row.codes[first + i] = (uint8_t)(kZero + (scale > 0.0f ? nearest(weights[i] / scale, 127.0f) : 0));
}

// Writes an output with 8 bits and scales in its blocks; returns the output's own.
float put_numbers(const StoredRow& row, bool is_exact, int output, uint8_t* tile) {
  using F = Form<8, 32>;
  const float largest = is_exact ? 1.0f : row.largest(0, row.num_inputs);
  for (int64_t part = 0; part < row.num_inputs / 32; ++part) {
    uint8_t* place = tile + part / 2 * F::kBlockBytes + (part % 2 * kTileOutputs + output) * 2;
    if (is_exact)
      as_half(row.scales[part], place);
    else
      quantize_again(row, part * 32, largest, place);
  }
  for (int64_t group = 0; group < row.num_inputs / kGroupInputs; ++group)
    put_group(tile + group / kBlockGroups * F::kBlockBytes + F::kCodesOffset, group % kBlockGroups, output,
              four_at(row.codes + group * kGroupInputs));
  return largest;
}

// Writes an output with 4 bits, its scales 16 apart.
template <class F>
void put_codes(const StoredRow& row, int output, uint8_t* tile, float* scales) {
  constexpr int kScaleInputs = kScaleBlocks * kBlockInputs;
  constexpr int kParts = kBlockInputs / F::kStepBlock;
  constexpr float kLargest = 4194304.0f;
  float inverse = 0.0f;
  for (int64_t part = 0; part < row.num_inputs / F::kStepBlock; ++part) {
    const int64_t first = part * F::kStepBlock, end = first + kScaleInputs;
    if (first % kScaleInputs == 0) {
      const float largest = row.largest(first, end < row.num_inputs ? end : row.num_inputs);
      scales[first / kScaleInputs * kTileOutputs] = largest / 127.0f;
      inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    }
    uint8_t* place = tile + part / kParts * F::kBlockBytes + (part % kParts * kTileOutputs + output) * 2;
    const uint16_t step = (uint16_t)nearest(row.scales[part] * inverse * 256.0f, kLargest);
    __builtin_memcpy(place, &step, 2);
    if (F::kHasStarts) {
      const uint16_t start = (uint16_t)(kMiddle + nearest(row.minimums[part] * inverse * 256.0f, kLargest));
      __builtin_memcpy(place + F::kStepBytes, &start, 2);
    }
  }
  for (int64_t line = 0; line < row.num_inputs / (2 * kGroupInputs); ++line) {
    const uint8_t* codes = row.codes + line * 2 * kGroupInputs;
    put_group(tile + line / (kBlockGroups / 2) * F::kBlockBytes + F::kCodesOffset, line % (kBlockGroups / 2), output,
              four_at(codes) | four_at(codes + kGroupInputs) << 4);
  }
}

// Where a row does not fill its last block, the inputs are 0 and the weights need not be.
void pack_row(const PackedForm& form, const StoredRow& row, bool is_exact, int output, uint8_t* tile, float* scales) {
  with_form(form, [&](auto constants) {
    using F = decltype(constants);
    if constexpr (F::kCodeBits == 4) put_codes<F>(row, output, tile, scales);
    if constexpr (F::kHasBlockScales) *scales = put_numbers(row, is_exact, output, tile);
  });
}

// One weight of a tile without its output's scale, as multiply_tile.h sees it.
template <class F>
inline float weight_at(const uint8_t* tile, int64_t input, int output) {
  const uint8_t* block = tile + input / kBlockInputs * F::kBlockBytes;
  const int group = (int)(input % kBlockInputs) / kGroupInputs, place = output * kGroupInputs + (int)(input % kGroupInputs);
  if (F::kCodeBits == 8) {
    const int number = block[F::kCodesOffset + group * kGroupBytes + place] - kZero;
    const int64_t part = input % kBlockInputs / F::kStepBlock;
    return F::kHasBlockScales ? half_at(block + (part * kTileOutputs + output) * 2) * (float)number : (float)number;
  }
  const int code = block[F::kCodesOffset + group / 2 * kGroupBytes + place] >> (group % 2 * 4) & 15;
  const uint8_t* steps = block + (input % kBlockInputs / F::kStepBlock * kTileOutputs + output) * 2;
  uint16_t step, start;
  __builtin_memcpy(&step, steps, 2);
  __builtin_memcpy(&start, steps + F::kStepBytes, 2);
  return (float)(((uint16_t)(code * step + (F::kHasStarts ? start : kMiddle - 8 * step)) >> 8) - kZero);
}

}  // namespace

// Rows of `stride` bytes, of which row_of[i] (or i, where row_of is null) is output i, to tiles of tile_bytes and tile_scales
// scales. Memory for the tiles and the scales, those of outputs that fill the last tile included, must be zero. The number of
// rows that have a scale or a minimum that is not finite is returned.
YEOUL_EXPORT(int64_t, pack_matrix)
(int type, const PackedForm* form, const uint8_t* rows, int64_t stride, const int64_t* row_of, int64_t num_outputs,
 int64_t num_inputs, int64_t tile_bytes, int64_t tile_scales, uint8_t* tiles, float* scales) {
  const int64_t block_inputs = inputs_of(type), scale_inputs = inputs_of_scale(type);
  const bool is_exact = type == kQ8_0 || type == kQ5_0;
  const float zero = has_minimums(type) ? 0.0f : form->code_bits == 4 ? 8.0f : 128.0f;
  int64_t num_bad = 0;
#pragma omp parallel reduction(+ : num_bad)
  {
    const int64_t num_scales = num_inputs / scale_inputs;
    auto* memory = (char*)calloc((size_t)(num_inputs + num_scales * 8), 1);
    if (memory == nullptr) abort();
    auto* row_scales = (float*)memory;
    const StoredRow stored = {num_inputs, (int)scale_inputs, zero, (uint8_t*)(row_scales + 2 * num_scales), row_scales,
                              row_scales + num_scales};
#pragma omp for schedule(static)
    for (int64_t index = 0; index < num_outputs; ++index) {
      const uint8_t* row = rows + (row_of != nullptr ? row_of[index] : index) * stride;
      for (int64_t first = 0; first < num_inputs; first += block_inputs, row += bytes_of(type)) {
        const int64_t part = first / scale_inputs;
        read_block(type, row, {stored.codes + first, stored.scales + part, stored.minimums + part});
      }
      num_bad += !are_finite(row_scales, 2 * num_scales);
      const int64_t tile = index / kTileOutputs, output = index % kTileOutputs;
      pack_row(*form, stored, is_exact, (int)output, tiles + tile * tile_bytes,
               scales + tile * tile_scales + output);
    }
    free(memory);
  }
  return num_bad;
}

// Packed outputs `indices` back to numbers of a type: [num_rows, num_inputs].
YEOUL_EXPORT(void, unpack_rows)
(const PackedForm* form, const uint8_t* tiles, const float* scales, int64_t tile_bytes, int64_t tile_scales, int64_t num_inputs,
 const int64_t* indices, int64_t num_rows, int type, void* numbers) {
#pragma omp parallel for schedule(static) if (num_rows > 16)
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t output = indices[row];
    const uint8_t* tile = tiles + output / kTileOutputs * tile_bytes;
    with_form(*form, [&](auto constants) {
      with_number_type(type, [&](auto number) {
        for (int64_t first = 0; first < num_inputs; first += kLanes) {
          const int count = num_inputs - first < kLanes ? (int)(num_inputs - first) : kLanes;
          const int64_t place = tile_scales == kTileOutputs ? 0 : first / (kScaleBlocks * kBlockInputs);
          const float scale = scales[output / kTileOutputs * tile_scales + place * kTileOutputs + output % kTileOutputs];
          float found[kLanes] = {};
          for (int i = 0; i < count; ++i)
            found[i] = scale * weight_at<decltype(constants)>(tile, first + i, (int)(output % kTileOutputs));
          store_some((decltype(number)*)numbers + row * num_inputs + first, load(found), count);
        }
      });
    });
  }
}
