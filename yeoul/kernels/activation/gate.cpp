// Gated activations for one instruction set; called by native.py. Knows nothing of layers.

#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/operation.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

constexpr int kGeluTanh = 1;        // the same as in native.py
constexpr int64_t kGatePiece = 512;  // numbers of a row that a thread takes at a time

inline Floats silu(Floats value) { return value / (splat(1.0f) + exponential(-value)); }

inline Floats gelu_tanh(Floats value) {
  const Floats inner = splat(0.7978845608f) * (value + splat(0.044715f) * value * value * value);
  return splat(0.5f) * value * (splat(1.0f) + hyperbolic_tangent(inner));
}

// The numbers `place` to `end` of a row.
void gate_part(const GateCall& call, int64_t row, int64_t place, int64_t end) {
  const int64_t size = call.size;
  const int32_t type = call.type;
  for (; place < end; place += kLanes) {
    const int count = lanes_left(end, place);
    const Floats value = load_typed(address_of(call.gate_and_up, row * 2 * size + place, type), type, count);
    const Floats up = load_typed(address_of(call.gate_and_up, (row * 2 + 1) * size + place, type), type, count);
    const Floats number = (call.kind == kGeluTanh ? gelu_tanh(value) : silu(value)) * up;
    store_typed(address_of(call.output, row * size + place, type), type, number, count);
  }
}

Plan plan_gate(const GateCall& call) { return {call.num_rows * call.size <= kSerialNumbers / 2, 0}; }

void run_gate(const GateCall& call, Team& team) {
  const int64_t parts = (call.size + kGatePiece - 1) / kGatePiece;
  team.share(call.num_rows * parts, rows_of_a_piece(kGatePiece), [&](int64_t part, int64_t last) {
    for (; part < last; ++part) {
      const int64_t place = part % parts * kGatePiece, end = place + kGatePiece;
      gate_part(call, part / parts, place, end < call.size ? end : call.size);
    }
  });
}

}  // namespace

YEOUL_OPERATION(gate, GateCall, plan_gate, run_gate)
