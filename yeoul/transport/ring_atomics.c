/* The steps of the shared-memory ring that Python cannot do: memory order, and sleeping and waking by futex.
 *
 * One writer publishes messages into slots in turn; each of N readers takes all of them in order. Nobody locks: the writer
 * alone moves `position`, each reader alone moves its own, and a slot is written again only when every reader is past it.
 * A process killed at any point has moved its position or not; nobody ever sees half a message.
 *
 * The other side may be hostile or damaged: geometry comes from the caller, never from shared memory, every number that is
 * read from there is checked before it is used, and seals keep the memory from shrinking under us. Whoever sleeps waits on
 * an event counter that a waker moves first, so that no wake-up is lost. Called by ring_library.py through ctypes.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics between processes must be lock-free");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "the layout is shared between processes");

#define EXPORT __attribute__((visibility("default")))
#define CACHE_LINE 64
#define ALIGNED _Alignas(CACHE_LINE)

/* Keep in step with ring_library.py. */
enum status {
    RING_OK = 0,
    RING_NOT_NOW = 1,    /* no message yet, or no free slot yet */
    RING_TIMEOUT = 2,
    RING_SIGNAL = 3,     /* a signal came: let Python handle it, then wait on */
    RING_CLOSED = 4,     /* by the other side */
    RING_INTERRUPTED = 5,/* by ring_interrupt or ring_close on this side */
    RING_DAMAGED = 6,    /* shared memory holds what no honest peer writes */
    RING_CLAIMED = 7,    /* this end already belongs to somebody */
    RING_FAILED = 8,     /* a system call failed; see errno */
};

#define MAX_NUM_SLOTS 65536u
#define MAX_NUM_READERS 1024u
#define MAX_SLOT_BYTES (UINT64_C(1) << 30)
#define MAX_SPIN_NS 20000
#define SHORT_WAIT_NS 50000

struct shared_reader {
    ALIGNED _Atomic uint64_t position; /* messages taken */
    _Atomic uint32_t claimed;
    _Atomic uint32_t closed;
};

struct shared_header {
    ALIGNED _Atomic uint64_t position; /* messages published */
    _Atomic uint32_t writer_claimed;
    _Atomic uint32_t writer_closed;
    ALIGNED _Atomic uint32_t publish_event; /* readers sleep on this */
    _Atomic uint32_t num_waiting_readers;
    ALIGNED _Atomic uint32_t release_event; /* the writer sleeps on this */
    _Atomic uint32_t num_waiting_writers;
    struct shared_reader readers[];
};

struct slot {
    ALIGNED _Atomic uint64_t number; /* of the message, from 1 */
    _Atomic uint64_t length;
    _Atomic uint32_t kind;
    uint32_t unused[11];
    uint8_t payload[];
};

struct ring { /* of this process alone */
    struct shared_header *header;
    uint8_t *slots;
    size_t mapped_bytes;
    uint64_t slot_bytes;
    uint64_t stride;
    uint32_t num_slots;
    uint32_t num_readers;
    int32_t reader_index; /* -1 for the writer */
    uint64_t position;    /* ours: what shared memory says of it is never read back */
    uint64_t slowest;     /* the writer's last look at the slowest reader */
    int64_t spin_ns;
    int64_t max_spin_ns;
    _Atomic uint32_t interrupted;
};

struct message {
    const uint8_t *payload;
    uint64_t length;
    uint32_t kind;
};

static uint64_t stride_of(uint64_t slot_bytes) {
    return sizeof(struct slot) + (slot_bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static size_t slots_offset(uint32_t num_readers) {
    return sizeof(struct shared_header) + num_readers * sizeof(struct shared_reader);
}

static size_t total_bytes(uint32_t num_slots, uint64_t slot_bytes, uint32_t num_readers) {
    return slots_offset(num_readers) + num_slots * (size_t)stride_of(slot_bytes);
}

static int is_possible(uint32_t num_slots, uint64_t slot_bytes, uint32_t num_readers) {
    return num_slots >= 1 && num_slots <= MAX_NUM_SLOTS && num_readers >= 1 && num_readers <= MAX_NUM_READERS &&
           slot_bytes >= 1 && slot_bytes <= MAX_SLOT_BYTES;
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void wake_all(_Atomic uint32_t *event) {
    atomic_fetch_add(event, 1);
    syscall(SYS_futex, event, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Sleeps while *event is `seen`, until `deadline_ns` of the monotonic clock (negative: for ever). 0 or an errno.
 * The deadline also holds where somebody moves the event again and again. */
static int sleep_on(_Atomic uint32_t *event, uint32_t seen, int64_t deadline_ns) {
    struct timespec deadline = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    long result = syscall(SYS_futex, event, FUTEX_WAIT_BITSET, seen, deadline_ns < 0 ? NULL : &deadline, NULL,
                          FUTEX_BITSET_MATCH_ANY);
    if (result != 0 && errno != EAGAIN) return errno;
    return deadline_ns >= 0 && now_ns() >= deadline_ns ? ETIMEDOUT : 0;
}

static struct slot *slot_of(const struct ring *ring) {
    return (struct slot *)(ring->slots + ring->position % ring->num_slots * ring->stride);
}

/* OK where a message waits; then `message` describes it. */
static int look(struct ring *ring, struct message *message) {
    struct shared_header *header = ring->header;
    uint32_t is_closed = atomic_load(&header->writer_closed); /* before position: what came before the end is still taken */
    uint64_t num_ready = atomic_load_explicit(&header->position, memory_order_acquire) - ring->position;
    if (num_ready == 0) {
        if (is_closed) return RING_CLOSED;
        return atomic_load(&ring->interrupted) ? RING_INTERRUPTED : RING_NOT_NOW;
    }
    struct slot *slot = slot_of(ring);
    message->payload = slot->payload;
    message->length = atomic_load_explicit(&slot->length, memory_order_relaxed);
    message->kind = atomic_load_explicit(&slot->kind, memory_order_relaxed);
    uint64_t number = atomic_load_explicit(&slot->number, memory_order_relaxed);
    if (num_ready > ring->num_slots || number != ring->position + 1 || message->length > ring->slot_bytes) return RING_DAMAGED;
    return RING_OK;
}

/* OK where a slot is free. */
static int find_room(struct ring *ring, struct message *unused) {
    (void)unused;
    uint64_t slowest = ring->position;
    for (uint32_t index = 0; index < ring->num_readers; index++) {
        struct shared_reader *reader = &ring->header->readers[index];
        if (atomic_load_explicit(&reader->closed, memory_order_relaxed)) return RING_CLOSED;
        if (ring->position - ring->slowest < ring->num_slots) continue; /* the last look is good enough */
        uint64_t position = atomic_load_explicit(&reader->position, memory_order_acquire);
        if (ring->position - position > ring->num_slots) return RING_DAMAGED; /* ahead of us counts as far behind */
        if (position < slowest) slowest = position;
    }
    if (ring->position - ring->slowest < ring->num_slots) return RING_OK;
    ring->slowest = slowest;
    if (ring->position - slowest < ring->num_slots) return RING_OK;
    return atomic_load(&ring->interrupted) ? RING_INTERRUPTED : RING_NOT_NOW;
}

typedef int (*check)(struct ring *, struct message *);

static int spin(struct ring *ring, check is_ready, struct message *message, int64_t start_ns) {
    for (int64_t now = start_ns; now - start_ns < ring->spin_ns; now = now_ns()) {
        for (int turn = 0; turn < 16; turn++) relax();
        int status = is_ready(ring, message);
        if (status != RING_NOT_NOW) return status;
    }
    return RING_NOT_NOW;
}

/* Spins for a moment if the last waits were short, then sleeps. An idle side soon spins no more. */
static int wait_until(struct ring *ring, check is_ready, struct message *message, _Atomic uint32_t *event,
                      _Atomic uint32_t *num_waiting, int64_t deadline_ns) {
    int64_t start_ns = now_ns();
    int status = is_ready(ring, message);
    if (status == RING_NOT_NOW) status = spin(ring, is_ready, message, start_ns);
    int error = 0;
    while (status == RING_NOT_NOW && error == 0) {
        atomic_fetch_add(num_waiting, 1);
        uint32_t seen = atomic_load(event);
        atomic_thread_fence(memory_order_seq_cst); /* the waker moves, then looks for sleepers; we announce, then look */
        status = is_ready(ring, message);
        if (status == RING_NOT_NOW) error = sleep_on(event, seen, deadline_ns);
        atomic_fetch_sub(num_waiting, 1);
        if (status == RING_NOT_NOW && error != EINTR) status = is_ready(ring, message);
    }
    ring->spin_ns = now_ns() - start_ns < SHORT_WAIT_NS ? ring->max_spin_ns : ring->spin_ns / 2;
    if (status != RING_NOT_NOW || error == 0) return status;
    return error == ETIMEDOUT ? RING_TIMEOUT : error == EINTR ? RING_SIGNAL : RING_FAILED;
}

static int64_t choose_max_spin_ns(void) {
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) < 2 ? 0 : MAX_SPIN_NS;
}

/* The size of a ring's memory, all zeros while nobody has attached; 0 for sizes that a ring cannot have. */
EXPORT uint64_t ring_num_bytes(uint32_t num_slots, uint64_t slot_bytes, uint32_t num_readers) {
    return is_possible(num_slots, slot_bytes, num_readers) ? total_bytes(num_slots, slot_bytes, num_readers) : 0;
}

static int claim(struct ring *ring) {
    uint32_t nobody = 0;
    _Atomic uint32_t *claimed = ring->reader_index < 0 ? &ring->header->writer_claimed
                                                       : &ring->header->readers[ring->reader_index].claimed;
    return atomic_compare_exchange_strong(claimed, &nobody, (uint32_t)getpid()) ? RING_OK : RING_CLAIMED;
}

static int map(struct ring *ring, int fd) {
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || fstat(fd, &status) != 0) return RING_FAILED;
    ring->mapped_bytes = total_bytes(ring->num_slots, ring->slot_bytes, ring->num_readers);
    if (!(seals & F_SEAL_SHRINK) || (size_t)status.st_size != ring->mapped_bytes) return RING_DAMAGED;
    void *memory = mmap(NULL, ring->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return RING_FAILED;
    ring->header = memory;
    ring->slots = (uint8_t *)memory + slots_offset(ring->num_readers);
    return RING_OK;
}

EXPORT void ring_detach(struct ring *ring) {
    if (ring->header != NULL) munmap(ring->header, ring->mapped_bytes);
    free(ring);
}

/* Takes one end of the ring in `fd` (reader_index -1: the writer's). `fd` may be closed afterwards. */
EXPORT int ring_attach(int fd, uint32_t num_slots, uint64_t slot_bytes, uint32_t num_readers, int32_t reader_index,
                       struct ring **attached) {
    if (!is_possible(num_slots, slot_bytes, num_readers) || reader_index < -1 || reader_index >= (int32_t)num_readers)
        return RING_DAMAGED;
    struct ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL) return RING_FAILED;
    ring->num_slots = num_slots;
    ring->slot_bytes = slot_bytes;
    ring->stride = stride_of(slot_bytes);
    ring->num_readers = num_readers;
    ring->reader_index = reader_index;
    ring->max_spin_ns = choose_max_spin_ns();
    int status = map(ring, fd);
    if (status == RING_OK) status = claim(ring);
    if (status == RING_OK)
        *attached = ring;
    else {
        int error = errno;
        ring_detach(ring);
        errno = error;
    }
    return status;
}

/* OK where a slot is free. Sleeps until then, or until `deadline_ns`. */
EXPORT int ring_wait_for_room(struct ring *ring, int64_t deadline_ns) {
    struct shared_header *header = ring->header;
    return wait_until(ring, find_room, NULL, &header->release_event, &header->num_waiting_writers, deadline_ns);
}

/* Publishes a message if a slot is free; never sleeps. */
EXPORT int ring_publish(struct ring *ring, const uint8_t *payload, uint64_t length, uint32_t kind) {
    if (length > ring->slot_bytes) return RING_DAMAGED;
    int status = find_room(ring, NULL);
    if (status != RING_OK) return status;
    struct slot *slot = slot_of(ring);
    memcpy(slot->payload, payload, length);
    atomic_store_explicit(&slot->length, length, memory_order_relaxed);
    atomic_store_explicit(&slot->kind, kind, memory_order_relaxed);
    atomic_store_explicit(&slot->number, ring->position + 1, memory_order_relaxed);
    ring->position++;
    atomic_store_explicit(&ring->header->position, ring->position, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* see wait_until */
    if (atomic_load_explicit(&ring->header->num_waiting_readers, memory_order_relaxed)) wake_all(&ring->header->publish_event);
    return RING_OK;
}

/* Describes the next message if there is one; never sleeps. It stays where it is until ring_release. */
EXPORT int ring_look(struct ring *ring, struct message *message) { return look(ring, message); }

/* OK where a message waits. Sleeps until then, or until `deadline_ns`. */
EXPORT int ring_wait_for_message(struct ring *ring, struct message *message, int64_t deadline_ns) {
    struct shared_header *header = ring->header;
    return wait_until(ring, look, message, &header->publish_event, &header->num_waiting_readers, deadline_ns);
}

/* Gives the slot of the message that ring_look described back to the writer. */
EXPORT void ring_release(struct ring *ring) {
    ring->position++;
    atomic_store_explicit(&ring->header->readers[ring->reader_index].position, ring->position, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* see wait_until */
    if (atomic_load_explicit(&ring->header->num_waiting_writers, memory_order_relaxed)) wake_all(&ring->header->release_event);
}

/* How many messages were published since the ring is there, and how many of them this reader has not taken yet; from any
 * thread that keeps the ring attached. */
EXPORT void ring_count(struct ring *ring, uint32_t reader_index, uint64_t *num_published, uint64_t *num_waiting) {
    uint64_t taken = 0; /* read first: a reader is never ahead of what is published later */
    if (reader_index < ring->num_readers)
        taken = atomic_load_explicit(&ring->header->readers[reader_index].position, memory_order_acquire);
    *num_published = atomic_load_explicit(&ring->header->position, memory_order_acquire);
    uint64_t waiting = *num_published - taken;
    *num_waiting = waiting < ring->num_slots ? waiting : ring->num_slots;
}

/* Wakes the thread of this process that waits here, now and whenever it would wait again. */
EXPORT void ring_interrupt(struct ring *ring) {
    atomic_store(&ring->interrupted, 1);
    wake_all(&ring->header->publish_event);
    wake_all(&ring->header->release_event);
}

/* Tells the other side that this end is closed, and wakes everybody. The memory stays mapped until ring_detach. */
EXPORT void ring_close(struct ring *ring) {
    atomic_store(ring->reader_index < 0 ? &ring->header->writer_closed : &ring->header->readers[ring->reader_index].closed, 1);
    ring_interrupt(ring);
}
