// GGUF's blocks to the packed form and packed rows back to numbers; exact, nothing is quantised again. Called by native.py.
//
// The block types are those of ggml (ggml-common.h); see also dequantize/reference.py.

#include "yeoul/kernels/native/export.h"
#include "yeoul/kernels/native/numbers.h"
#include "yeoul/kernels/packed_linear/packed_format.h"

namespace {

// The same as BlockType in packed_matrix.py.
enum BlockType : int { kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K };

constexpr int kMaxInputs = 256;

inline float half_at(const uint8_t* bytes) {
  Float16 numbers[kLanes] = {};
  __builtin_memcpy(&numbers[0], bytes, 2);
  return load(numbers)[0];
}

// One block of a row: codes, and a scale and a minimum for each 16 or 32 of them.
struct Block {
  uint8_t codes[kMaxInputs];
  float scales[kMaxInputs / 16];
  float minimums[kMaxInputs / 16];
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

void read_q2(const uint8_t* b, Block* block) {
  const float scale = half_at(b + 80), minimum = half_at(b + 82);
  for (int i = 0; i < 16; ++i) {
    block->scales[i] = scale * (float)(b[i] & 15);
    block->minimums[i] = -(minimum * (float)(b[i] >> 4));
  }
  for (int i = 0; i < 256; ++i) block->codes[i] = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

void read_q3(const uint8_t* b, Block* block) {
  const float scale = half_at(b + 108);
  const uint8_t* packed = b + 96;
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4, high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
    block->scales[i] = scale * (float)((low | high << 4) - 32);
  }
  for (int i = 0; i < 256; ++i) {
    const int two_bits = b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3, third = b[i % 32] >> (i / 32) & 1;
    block->codes[i] = (uint8_t)(two_bits + 4 * third + 4);
  }
}

void read_q4(const uint8_t* b, const uint8_t* fifth, const uint8_t* packed, Block* block) {
  const float scale = half_at(b), minimum = half_at(b + 2);
  for (int i = 0; i < 8; ++i) {
    int six_bit_scale, six_bit_minimum;
    six_bit_pair(b + 4, i, &six_bit_scale, &six_bit_minimum);
    block->scales[i] = scale * (float)six_bit_scale;
    block->minimums[i] = -(minimum * (float)six_bit_minimum);
    for (int j = 0; j < 32; ++j) {
      const int high = fifth != nullptr ? (fifth[j] >> i & 1) << 4 : 0;
      block->codes[i * 32 + j] = (uint8_t)((packed[i / 2 * 32 + j] >> (i % 2 * 4) & 15) + high);
    }
  }
}

void read_q6(const uint8_t* b, Block* block) {
  const float scale = half_at(b + 208);
  for (int i = 0; i < 16; ++i) block->scales[i] = scale * (float)(int8_t)b[192 + i];
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, place = i % 128;
    const int low = b[half * 64 + place % 64] >> (place / 64 * 4) & 15;
    const int high = b[128 + half * 32 + place % 32] >> (place / 32 * 2) & 3;
    block->codes[i] = (uint8_t)((low | high << 4) - 32 + 128);
  }
}

void read_block(int type, const uint8_t* b, Block* block) {
  switch (type) {
    case kQ2_K: return read_q2(b, block);
    case kQ3_K: return read_q3(b, block);
    case kQ4_K: return read_q4(b, nullptr, b + 16, block);
    case kQ5_K: return read_q4(b, b + 16, b + 48, block);
    case kQ6_K: return read_q6(b, block);
  }
  block->scales[0] = half_at(b);
  switch (type) {
    case kQ4_0: return read_nibbles(b + 2, nullptr, 0, block->codes);
    case kQ4_1: block->minimums[0] = half_at(b + 2); return read_nibbles(b + 4, nullptr, 0, block->codes);
    case kQ5_0: return read_nibbles(b + 6, b + 2, 128 - 16, block->codes);
    case kQ5_1: block->minimums[0] = half_at(b + 2); return read_nibbles(b + 8, b + 4, 0, block->codes);
    case kQ8_0:
      for (int i = 0; i < 32; ++i) block->codes[i] = b[2 + i] ^ 0x80;
  }
}

void put_scale(void* scales, bool is_half, int64_t place, float value) {
  if (!is_half) {
    ((float*)scales)[place] = value;
    return;
  }
  Float16 numbers[kLanes];
  store(numbers, splat(value));
  ((Float16*)scales)[place] = numbers[0];
}

// Writes a block of inputs of an output into the tile's bytes.
void put_block(const PackedForm& form, const Block& block, int num_inputs, int output, uint8_t* codes) {
  for (int input = 0; input < num_inputs; ++input) {
    const int group = input / 4, place = output * 4 + input % 4;
    if (form.code_bits == 8)
      codes[group * 64 + place] = block.codes[input];
    else
      codes[group / 2 * 64 + place] |= (uint8_t)(block.codes[input] << (group % 2 * 4));
  }
}

}  // namespace

// Rows of `stride` bytes, of which row_of[i] (or i, where row_of is null) is output i. The packed memory must be zero.
YEOUL_EXPORT(void, pack_matrix)
(int type, const PackedForm* form, const uint8_t* rows, int64_t stride, const int64_t* row_of, int64_t num_outputs,
 int64_t num_inputs, uint8_t* codes, void* scales, void* minimums) {
  const int64_t num_tiles = ceil_divide(num_outputs, kTileOutputs), block_inputs = inputs_of(type);
  const int64_t tile_scales = num_inputs / form->scale_block * kTileOutputs;
  const int64_t tile_bytes = num_inputs * kTileOutputs * form->code_bits / 8;
#pragma omp parallel for schedule(static)
  for (int64_t tile = 0; tile < num_tiles; ++tile) {
    for (int output = 0; output < kTileOutputs && tile * kTileOutputs + output < num_outputs; ++output) {
      const int64_t index = tile * kTileOutputs + output;
      const uint8_t* row = rows + (row_of != nullptr ? row_of[index] : index) * stride;
      for (int64_t first = 0; first < num_inputs; first += block_inputs, row += bytes_of(type)) {
        Block block;
        read_block(type, row, &block);
        put_block(*form, block, (int)block_inputs, output, codes + tile * tile_bytes + first * kTileOutputs * form->code_bits / 8);
        for (int64_t i = 0; i < block_inputs / form->scale_block; ++i) {
          const int64_t place = tile * tile_scales + (first / form->scale_block + i) * kTileOutputs + output;
          put_scale(scales, form->has_half_scales, place, block.scales[i]);
          if (form->has_minimums) put_scale(minimums, form->has_half_scales, place, block.minimums[i]);
        }
      }
    }
  }
}

// Packed outputs `indices` back to numbers of a type: [num_rows, num_inputs].
YEOUL_EXPORT(void, unpack_rows)
(const PackedForm* form, const uint8_t* codes, const void* scales, const void* minimums, int64_t num_inputs,
 const int64_t* indices, int64_t num_rows, int type, void* numbers) {
  const int64_t tile_scales = num_inputs / form->scale_block * kTileOutputs;
  const int64_t tile_bytes = num_inputs * kTileOutputs * form->code_bits / 8;
  const auto scale_at = [&](const void* all, int64_t place) {
    return form->has_half_scales ? half_at((const uint8_t*)all + 2 * place) : ((const float*)all)[place];
  };
#pragma omp parallel for schedule(static) if (num_rows > 16)
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t tile = indices[row] / kTileOutputs, output = indices[row] % kTileOutputs;
    const uint8_t* tile_codes = codes + tile * tile_bytes;
    for (int64_t first = 0; first < num_inputs; first += 16) {
      const int64_t place = tile * tile_scales + first / form->scale_block * kTileOutputs + output;
      const float scale = scale_at(scales, place), minimum = form->has_minimums ? scale_at(minimums, place) : 0.0f;
      const float offset = form->has_minimums ? 0.0f : form->code_bits == 4 ? 8.0f : 128.0f;
      float found[16];
      for (int i = 0; i < 16; ++i) {
        const int64_t group = (first + i) / 4, byte = output * 4 + i % 4;
        const int code = form->code_bits == 8 ? tile_codes[group * 64 + byte]
                                              : tile_codes[group / 2 * 64 + byte] >> (group % 2 * 4) & 15;
        found[i] = scale * ((float)code - offset) + minimum;
      }
      with_number_type(type, [&](auto number) {
        for (int i = 0; i < 16; i += kLanes)
          store((decltype(number)*)numbers + row * num_inputs + first + i, load(found + i));
      });
    }
  }
}
