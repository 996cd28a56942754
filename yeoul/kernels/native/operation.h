// What a native operation is: a function of one structure, run by a team; knows nothing of any particular one.
//
// The first field of every structure is the number of rows, so that a list of operations that was made once can be run on
// any number of rows. See run_operations.cpp for who runs them, and native_library.py for how Python finds them.

#pragma once

#include "yeoul/kernels/native/export.h"
#include "yeoul/kernels/native/team.h"

namespace {

// What an operation needs for a given structure.
struct Plan {
  bool is_small;       // sooner done by one thread than by a team that must be woken first
  int64_t room_bytes;  // of Team::room
};

struct OperationKind {
  Plan (*plan)(const void* call);
  void (*run)(const void* call, Team& team);
  int64_t call_bytes;  // of its structure; Python compares, since a library may be older than the sources beside it
};

struct Operation {
  const OperationKind* kind;
  void* call;
};

}  // namespace

// YEOUL_OPERATION(rms_norm, RmsNormCall, plan_rms_norm, run_rms_norm) gives Python the operation rms_norm_avx512 and so on.
#define YEOUL_OPERATION(name, Call, plan_function, run_function)                                        \
  extern "C" __attribute__((visibility("default"))) const OperationKind YEOUL_JOIN(name, YEOUL_INSTRUCTION_SET); \
  const OperationKind YEOUL_JOIN(name, YEOUL_INSTRUCTION_SET) = {                                       \
      [](const void* call) { return plan_function(*(const Call*)call); },                               \
      [](const void* call, Team& team) { run_function(*(const Call*)call, team); },                     \
      sizeof(Call),                                                                                     \
  };
