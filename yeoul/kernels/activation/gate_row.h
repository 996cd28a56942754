// A row of gated activations, or a part of it; for all operations that compute them.

#pragma once

#include "yeoul/kernels/native/calls.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

constexpr int kGeluTanh = 1;  // the same as in native.py

struct Silu {
  Floats operator()(Floats value) const { return value / (splat(1.0f) + exponential(-value)); }
};

struct GeluTanh {
  Floats operator()(Floats value) const {
    const Floats inner = splat(0.7978845608f) * (value + splat(0.044715f) * value * value * value);
    return splat(0.5f) * value * (splat(1.0f) + hyperbolic_tangent(inner));
  }
};

template <class Number, class Activation>
inline void gate_typed_row(const GateCall& call, int64_t row, int64_t begin, int64_t end, Activation activation) {
  const Number *gate = (const Number*)call.gate_and_up + row * 2 * call.size, *up = gate + call.size;
  Number* output = (Number*)call.output + row * call.size;
  for_each_vector(end - begin, [&](int64_t place, int count) {
    const Floats number = activation(load_some(gate + begin + place, count)) * load_some(up + begin + place, count);
    store_some(output + begin + place, number, count);
  });
}

// The numbers `begin` to `end` of a row.
inline void gate_row(const GateCall& call, int64_t row, int64_t begin, int64_t end) {
  with_number_type(call.type, [&](auto number) {
    call.kind == kGeluTanh ? gate_typed_row<decltype(number)>(call, row, begin, end, GeluTanh())
                           : gate_typed_row<decltype(number)>(call, row, begin, end, Silu());
  });
}

}  // namespace
