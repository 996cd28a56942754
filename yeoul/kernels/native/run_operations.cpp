// Runs a list of operations, one after the other, on one team of threads; called by native_operations.py.
//
// Knows nothing of any operation. A team is woken once for a whole list, which may be all layers of a model.

#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "yeoul/kernels/native/operation.h"
#include "yeoul/kernels/native/typed_rows.h"

namespace {

// A thread begins with the name of the one that started it, the worker's own: "yeoul::Worker_0" becomes "Worker_0 omp 1", so that
// whoever looks at a machine's threads sees whose it is. In other programs, names are left as they are.
void name_once(int number) {
  static thread_local bool is_named = false;
  if (is_named) return;
  is_named = true;
  constexpr char kPrefix[] = "yeoul::";
  constexpr size_t kPrefixLength = sizeof(kPrefix) - 1, kNameBytes = 16;
  char name[kNameBytes] = {}, longer[2 * kNameBytes];
  if (number == 0 || prctl(PR_GET_NAME, name) != 0 || strncmp(name, kPrefix, kPrefixLength) != 0) return;
  snprintf(longer, sizeof longer, "%s omp %d", name + kPrefixLength, number);
  prctl(PR_SET_NAME, longer);  // the kernel takes what fits
}

}  // namespace

// Sets the rows of all operations to num_rows, unless it is 0, and runs them.
YEOUL_EXPORT(void, run_operations)(const Operation* operations, int64_t num_operations, int64_t num_rows) {
  static thread_local Scratch room;
  static thread_local TeamState kept_state;
  TeamState& state = kept_state;  // the calling thread's, for all threads of the team
  int64_t room_bytes = 0;
  bool is_small = true;
  for (int64_t index = 0; index < num_operations; ++index) {
    if (num_rows > 0) *(int64_t*)operations[index].call = num_rows;
    const Plan plan = operations[index].kind->plan(operations[index].call);
    room_bytes = plan.room_bytes > room_bytes ? plan.room_bytes : room_bytes;
    is_small = is_small && plan.is_small;
  }
  char* memory = (char*)room.at_least((room_bytes + 3) / 4);
  state = TeamState();
#pragma omp parallel if (!is_small)
  {
    name_once(omp_get_thread_num());
    Team team(state, omp_get_num_threads(), memory);
    for (int64_t index = 0; index < num_operations; ++index) operations[index].kind->run(operations[index].call, team);
  }
}
