// Chooses one token a row for one instruction set; called by native.py, see reference.py for what it computes.
//
// Knows nothing of requests. A row is computed by one thread in one order, so it never sees the others. Of its logits it makes
// weights relative to the likeliest token's; those that the filters do not let through become zeros.
// The random numbers are Philox4x32-10 (Salmon et al. 2011), see sampling_noise/reference.py.

#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

constexpr int64_t kSumWidth = 512;  // weights that are summed together before their sum joins the others
constexpr int kDigitBits = 10;      // of a weight's 30 bits (it is at most 1) that a search decides at a time
constexpr int kDigits = 1 << kDigitBits;

// The largest number of a piece; NaN where a number is NaN or the largest infinite.
inline float largest_of(const float* values, int64_t size) {
  Floats largest = splat(-__builtin_inff()), strange = {};
  for (int64_t place = 0; place < size; place += kLanes) {
    const int count = lanes_left(size, place);
    const Floats value = count == kLanes ? load(values + place) : load_some(values + place, count);
    if (count < kLanes) {
      for (int lane = 0; lane < count; ++lane) {
        if (!(value[lane] <= largest[0])) largest[0] = value[lane];
        if (value[lane] != value[lane]) strange[0] = value[lane];
      }
      continue;
    }
    largest = maximum(largest, value);
    strange = strange + select_less(value, splat(__builtin_inff()), Floats{}, value - value);
  }
  return largest_lane(largest) + sum_lanes(strange);
}

// The first place of the largest number of a row, and that number.
int64_t find_largest(const float* values, int64_t size, float* highest) {
  int64_t best_piece = 0;
  float best = -__builtin_inff();
  for (int64_t start = 0; start < size; start += kSumWidth) {
    const float largest = largest_of(values + start, size - start < kSumWidth ? size - start : kSumWidth);
    if (best == best && !(largest <= best)) {
      best = largest;
      best_piece = start;
    }
  }
  int64_t place = best_piece;
  while (place < size - 1 && values[place] != best && best == best) ++place;
  *highest = best;
  return place;
}

double uniform_noise(const SamplingRow& row) {
  uint32_t key[2] = {(uint32_t)row.seed, (uint32_t)(row.seed >> 32)};
  uint32_t words[4] = {row.position, row.choice_index, 0, 0};
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = (uint64_t)words[0] * 0xD2511F53u, second = (uint64_t)words[2] * 0xCD9E8D57u;
    const uint32_t next[4] = {(uint32_t)(second >> 32) ^ words[1] ^ key[0], (uint32_t)second,
                              (uint32_t)(first >> 32) ^ words[3] ^ key[1], (uint32_t)first};
    for (int word = 0; word < 4; ++word) words[word] = next[word];
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return (double)(((uint64_t)words[0] << 32 | words[1]) >> 11) * 0x1p-53;
}

// A row's weights and the sums of each kSumWidth of them.
struct Weights {
  float* numbers;
  int64_t size;
  double* sums;

  int64_t num_sums() const { return (size + kSumWidth - 1) / kSumWidth; }

  int64_t end_of(int64_t index) const { return (index + 1) * kSumWidth < size ? (index + 1) * kSumWidth : size; }

  double total() const {
    double sum = 0.0;
    for (int64_t index = 0; index < num_sums(); ++index) sum += sums[index];
    return sum;
  }

  // Makes every number change(the one of `source` at its place) and sums them. The source may be the numbers themselves.
  template <class Change>
  void become(const float* source, Change change) {
    for (int64_t index = 0; index < num_sums(); ++index) {
      Floats sum = {};
      for (int64_t place = index * kSumWidth; place < end_of(index); place += kLanes) {
        const int count = lanes_left(end_of(index), place);
        store_some(numbers + place, change(load_some(source + place, count)), count);
        sum = sum + load_some(numbers + place, count);
      }
      sums[index] = (double)sum_lanes(sum);
    }
  }
};

// The weight at which those that are larger or equal first reach `target`: how many they are, or how much they weigh. It is
// found from its highest bits to its lowest, in three passes.
float weight_at(const Weights& weights, double target, bool by_weight) {
  double found[kDigits], reached = 0.0;
  uint32_t prefix = 0;
  for (int shift = 2 * kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (double& number : found) number = 0.0;
    for (int64_t place = 0; place < weights.size; ++place) {
      const uint32_t bits = as_bits(weights.numbers[place]);
      if ((uint32_t)((uint64_t)bits >> (shift + kDigitBits)) == prefix)
        found[bits >> shift & (kDigits - 1)] += by_weight ? (double)weights.numbers[place] : 1.0;
    }
    uint32_t digit = kDigits - 1;
    for (; digit > 0 && reached + found[digit] < target; --digit) reached += found[digit];
    prefix = prefix << kDigitBits | digit;
  }
  return as_float(prefix);
}

// The least weight that top-k, then top-p (of what top-k left), then min-p let through.
float threshold_of(const SamplingRow& row, const Weights& weights) {
  float threshold = row.min_p, kth = 0.0f;
  if (row.top_k > 0) kth = weight_at(weights, row.top_k, false);
  if (row.top_p < 1.0f) {
    double total = kth > 0.0f ? 0.0 : weights.total();
    if (kth > 0.0f)
      for (int64_t place = 0; place < weights.size; ++place)
        if (weights.numbers[place] >= kth) total += (double)weights.numbers[place];
    const float last = weight_at(weights, (double)row.top_p * total, true);
    threshold = last > threshold ? last : threshold;
  }
  threshold = kth > threshold ? kth : threshold;
  return threshold < 1.0f ? threshold : 1.0f;  // the likeliest token always stays
}

// The token at which the running sum first exceeds `noise` times the total; never one of weight 0.
int64_t invert_cumulative(const Weights& weights, double noise) {
  const double target = noise * weights.total();
  double running = 0.0;
  int64_t index = 0, last = 0;
  for (; index + 1 < weights.num_sums() && running + weights.sums[index] <= target; ++index) running += weights.sums[index];
  while (index > 0 && weights.sums[index] == 0.0) --index;  // rounding may lead past the last token that has a weight
  for (int64_t place = index * kSumWidth; place < weights.end_of(index); ++place) {
    if (weights.numbers[place] == 0.0f) continue;
    running += (double)weights.numbers[place];
    last = place;
    if (running > target) break;
  }
  return last;
}

// The logits of the tokens whose bit is set; the others cannot be chosen.
void keep_masked(const float* logits, int64_t size, const uint32_t* mask, float* kept) {
  const float never = -__builtin_inff();
  for (int64_t start = 0; start < size; start += 32) {
    const uint32_t bits = mask[start / 32];
    const int64_t count = size - start < 32 ? size - start : 32;
    for (int64_t lane = 0; lane < count; ++lane) kept[start + lane] = bits >> lane & 1 ? logits[start + lane] : never;
  }
}

void sample_row(const SampleCall& call, int64_t index) {
  static thread_local Scratch scratch;
  const SamplingRow& row = call.rows[index];
  const float* logits = call.logits + index * call.size;
  Weights weights = {nullptr, call.size, nullptr};
  float* memory = scratch.at_least(2 * weights.num_sums() + call.size);
  weights.sums = (double*)memory;
  weights.numbers = memory + 2 * weights.num_sums();
  if (call.masks) {
    keep_masked(logits, call.size, call.masks + index * ((call.size + 31) / 32), weights.numbers);
    logits = weights.numbers;
  }
  call.token_ids[index] = find_largest(logits, call.size, call.highest + index);
  const float highest = call.highest[index];
  if (!(row.temperature > 0.0f) || highest - highest != 0.0f) return;
  const Floats shift = splat(highest), temperature = splat(row.temperature);
  weights.become(logits, [&](Floats logit) { return exponential((logit - shift) / temperature); });
  if (row.top_k > 0 || row.top_p < 1.0f || row.min_p > 0.0f) {
    const Floats threshold = splat(threshold_of(row, weights));
    weights.become(weights.numbers, [&](Floats weight) { return select_less(weight, threshold, Floats{}, weight); });
  }
  call.token_ids[index] = invert_cumulative(weights, uniform_noise(row));
}

Plan plan_sample(const SampleCall& call) { return {call.num_rows == 1 || call.num_rows * call.size <= kSerialNumbers, 0}; }

void run_sample(const SampleCall& call, Team& team) {
  team.share(call.num_rows, 1, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) sample_row(call, row);
  });
}

}  // namespace

YEOUL_OPERATION(sample, SampleCall, plan_sample, run_sample)
