/* The update of many devices at once: what `client_sdk` computes for one person, for a range of them.

   Rules a reader can check line by line:

   1. Each function does, for each person of a range, what one encoder of `client_sdk.federation`
      does, then what the outbound guard does, then what `privacy.bounded_sum.to_lattice` does, and
      adds the integers to the caller's sum. No float is ever added across people, so the sum does
      not depend on their order, on threads or on workers.
   2. Only the rows that a person touches are read or written.
   3. Negatives are those of numpy's Philox4x64 and its bounded integers (Lemire 2019, arXiv
      1805.10941), draw for draw.
   4. Floats are added in 16 fixed lanes and never contracted (-ffp-contract=off), so every
      instruction set gives the same bits.
   5. Nothing is allocated here but one workspace a call; nothing is kept between calls.

   `simulations.kernel.compiled` compiles this file, `library` describes its arguments. Tests hold
   each function against the device's own code, person by person. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 1073741824.0 /* 2^30, as in privacy.bounded_sum */
/* Rounding may leave a contribution a little above the bound: it is shrunk, a few times at most. */
#define SHRINK (1.0f - 0x1p-21f)
#define TRIES 8
#define LANES 16
#define MAX_RANK 1024
#define INLINE static inline __attribute__((always_inline))

enum { DONE = 0, NOTHING_TO_SEND = 1, NOT_FINITE = 2 };
enum { NO_MEMORY = -1, BAD_ARGUMENT = -2 };

/* A population in compressed rows: person p has entries [offsets[p], offsets[p + 1]). */
typedef struct {
  const int64_t *offsets;
  const int32_t *items; /* strictly increasing for each person */
  const float *weights; /* the unit-norm history vector */
} People;

/* One bounded sum that is being added up. */
typedef struct {
  double clip_norm;
  double keep;     /* the part of the clip norm that the update may have; 1 but for fit counts */
  int64_t limit;   /* largest sum of squared steps of one update: keep^2 STEPS^2 or less */
  int64_t *sum;    /* lattice steps, one for each entry */
  double *norms;   /* [people asked] norm before clipping */
  uint8_t *status; /* [people asked] DONE, NOTHING_TO_SEND or NOT_FINITE */
} Sum;

typedef struct {
  const float *factors; /* [n_items, rank] */
  const int64_t *positive_offsets;
  const int32_t *positives; /* the latest items that fit the device's batch, sorted */
  uint64_t seed;
  double ridge;
  double learning_rate;
  int32_t n_items;
  int32_t rank;
  int32_t steps;
  int32_t negatives;
  int32_t by_rows; /* 0: along the private vector only; 1: every row copied and stepped */
} ItemTraining;

/* ---- Philox4x64-10 (Salmon et al. 2011) as numpy counts it ------------------------------- */

typedef struct {
  uint64_t key[2], counter[4], block[4];
  int next;        /* 0..8: which 32-bit half comes next; 8: the block is used up */
} Philox;

INLINE void philox_block(Philox *state) {
  uint64_t c0, c1, c2, c3, k0 = state->key[0], k1 = state->key[1];
  for (int word = 0; word < 4; word++)
    if (++state->counter[word]) break;
  c0 = state->counter[0], c1 = state->counter[1], c2 = state->counter[2], c3 = state->counter[3];
  for (int round = 0; round < 10; round++) {
    unsigned __int128 first = (unsigned __int128)0xD2E7470EE14C6C93u * c0;
    unsigned __int128 second = (unsigned __int128)0xCA5A826395121157u * c2;
    uint64_t n0 = (uint64_t)(second >> 64) ^ c1 ^ k0, n2 = (uint64_t)(first >> 64) ^ c3 ^ k1;
    c0 = n0, c1 = (uint64_t)second, c2 = n2, c3 = (uint64_t)first;
    k0 += 0x9E3779B97F4A7C15u, k1 += 0xBB67AE8584CAA73Bu;
  }
  state->block[0] = c0, state->block[1] = c1, state->block[2] = c2, state->block[3] = c3;
  state->next = 0;
}

INLINE uint32_t philox_next(Philox *state) {
  if (state->next == 8) philox_block(state);
  int at = state->next++;
  return (uint32_t)(state->block[at >> 1] >> (32 * (at & 1)));
}

/* Uniform in [0, below), below in [1, 2^32). */
INLINE uint32_t philox_below(Philox *state, uint32_t below) {
  if (below == 1) return 0;
  uint64_t product = (uint64_t)philox_next(state) * below;
  if ((uint32_t)product < below) {
    uint32_t threshold = (UINT32_MAX - (below - 1)) % below;
    while ((uint32_t)product < threshold) product = (uint64_t)philox_next(state) * below;
  }
  return (uint32_t)(product >> 32);
}

/* ---- Lattice ------------------------------------------------------------------------------ */

INLINE double squares_of(const float *values, int64_t count) {
  double lanes[LANES] = {0};
  int64_t at = 0;
  for (; at + LANES <= count; at += LANES)
    for (int lane = 0; lane < LANES; lane++)
      lanes[lane] += (double)values[at + lane] * values[at + lane];
  for (int lane = 0; at < count; at++, lane++) lanes[lane] += (double)values[at] * values[at];
  for (int half = LANES / 2; half; half /= 2)
    for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

/* Adds sign * trunc(values * scale) to the sum and returns the squares of what it added.
   |values * scale| is at most 2^30 and rounding, so 32 bits hold a step and 64 their squares. */
INLINE int64_t add_steps(const float *values, int count, float scale, int64_t *sum, int sign) {
  int64_t squares = 0;
  for (int at = 0; at < count; at++) {
    int64_t step = (int32_t)(values[at] * scale);
    squares += step * step;
    sum[at] += sign * step;
  }
  return squares;
}

/* ``scale`` with which a contribution of this norm is clipped and put on the lattice. */
INLINE float scale_for(double norm, const Sum *out) {
  return (float)(out->keep * STEPS / (norm > out->clip_norm ? norm : out->clip_norm));
}

/* ---- The private vector --------------------------------------------------------------------- */

INLINE float dot(const float *a, const float *b, int rank) {
  float lanes[LANES] = {0};
  int at = 0;
  for (; at + LANES <= rank; at += LANES)
    for (int lane = 0; lane < LANES; lane++) lanes[lane] += a[at + lane] * b[at + lane];
  for (int lane = 0; at < rank; at++, lane++) lanes[lane] += a[at] * b[at];
  for (int half = LANES / 2; half; half /= 2)
    for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

/* u = (F' diag(x) F + ridge I)^-1 F' x over the history's rows, in float64, by Cholesky.
   gram: float64[rank, rank] of workspace. Returns 0 where the matrix is not positive definite. */
INLINE int private_vector(const float *factors, const int32_t *items, const float *x, int64_t count,
                          int rank, double ridge, double *gram, double *right, float *u) {
  double rows[4][MAX_RANK];
  memset(gram, 0, sizeof(double) * rank * rank);
  memset(right, 0, sizeof(double) * rank);
  for (int64_t at = 0; at < count; at += 4) {
    double weight[4];
    for (int row = 0; row < 4; row++) {
      int64_t here = at + row < count ? at + row : at;
      const float *f = factors + (int64_t)items[here] * rank;
      weight[row] = at + row < count ? x[here] : 0.0;
      for (int j = 0; j < rank; j++) rows[row][j] = f[j];
    }
    for (int j = 0; j < rank; j++)
      right[j] += (weight[0] * rows[0][j] + weight[1] * rows[1][j]) +
                  (weight[2] * rows[2][j] + weight[3] * rows[3][j]);
    for (int i = 0; i < rank; i++) {
      double a = weight[0] * rows[0][i], b = weight[1] * rows[1][i];
      double c = weight[2] * rows[2][i], d = weight[3] * rows[3][i];
      double *line = gram + (int64_t)i * rank;
      /* From the diagonal's block of eight on: the part below the diagonal is never read. */
      for (int j = i & ~7; j < rank; j++)
        line[j] += (a * rows[0][j] + b * rows[1][j]) + (c * rows[2][j] + d * rows[3][j]);
    }
  }
  /* Upper factor R with G = R' R, row by row; whole blocks of eight are quicker than exact ones. */
  for (int i = 0; i < rank; i++) {
    double *line = gram + (int64_t)i * rank;
    line[i] += ridge;
    if (!(line[i] > 0.0)) return 0;
    double inverse = 1.0 / sqrt(line[i]);
    for (int j = i & ~7; j < rank; j++) line[j] *= inverse;
    right[i] *= inverse;
    for (int below = i + 1; below < rank; below++) {
      double times = line[below];
      double *target = gram + (int64_t)below * rank;
      for (int j = below & ~7; j < rank; j++) target[j] -= times * line[j];
      right[below] -= times * right[i];
    }
  }
  for (int i = rank - 1; i >= 0; i--) {
    const double *line = gram + (int64_t)i * rank;
    double value = right[i];
    for (int j = i + 1; j < rank; j++) value -= line[j] * right[j];
    right[i] = value / line[i];
  }
  for (int j = 0; j < rank; j++) u[j] = (float)right[j];
  return 1;
}

INLINE float sigmoid(float score) { return 1.0f / (1.0f + expf(-score)); }

/* ---- Item training -------------------------------------------------------------------------- */

/* Finds the k-th item that a person never had: k plus the number of avoided items before it.
   starts[b] is that number for the first k of bucket b, so that a look-up reads an item or two. */
typedef struct {
  const int32_t *avoid;
  int64_t count;
  int shift;
  int32_t *starts;
} Outside;

INLINE int bucket_shift(uint32_t left, int64_t count) {
  int shift = 0;
  while ((int64_t)(left >> shift) > 4 * count) shift++;
  return shift;
}

INLINE void prepare_outside(Outside *outside, uint32_t left) {
  int64_t buckets = ((int64_t)left >> outside->shift) + 2, before = 0;
  for (int64_t bucket = 0; bucket < buckets; bucket++) {
    int64_t rank = bucket << outside->shift;
    while (before < outside->count && outside->avoid[before] - before <= rank) before++;
    outside->starts[bucket] = (int32_t)before;
  }
}

INLINE int32_t item_outside(const Outside *outside, uint32_t rank) {
  const int32_t *starts = outside->starts + (rank >> outside->shift);
  int32_t before = starts[0], end = starts[1];
  while (end - before > 8) {
    int32_t half = before + (end - before) / 2;
    if (outside->avoid[half] - half <= (int64_t)rank) before = half + 1;
    else end = half;
  }
  while (before < end && outside->avoid[before] - before <= (int64_t)rank) before++;
  return (int32_t)rank + before;
}

typedef struct {
  int32_t *slot_of;  /* [n_items] where an item stands among the touched ones; -1 where it doesn't */
  int32_t *touched;  /* [room] items, in order of first use */
  int32_t *drawn;    /* [room] how often this step drew it */
  int32_t *order;    /* [room] the slots that this step uses */
  float *score;      /* [room] u f, as it changes */
  float *along;      /* [room] the change so far is `along` times u */
  float *rows;       /* [room, rank] rows as they change; only by rows */
  int32_t *starts;   /* [buckets] of Outside */
  double *gram;
  double *right;
} Workspace;

/* Reads a row that is used for the first time. */
INLINE void take_row(const ItemTraining *task, Workspace *work, int64_t slot, const float *u,
                     const int rank) {
  const float *row = task->factors + (int64_t)work->touched[slot] * rank;
  work->along[slot] = 0.0f;
  if (task->by_rows) memcpy(work->rows + slot * rank, row, sizeof(float) * rank);
  else work->score[slot] = dot(row, u, rank);
}

/* One gradient step of one row down the weighted logistic loss. */
INLINE void step_row(const ItemTraining *task, Workspace *work, int64_t slot, const float *u,
                     const int rank, float length, float weight, float label) {
  const float rate = (float)task->learning_rate;
  if (task->by_rows) {
    float *row = work->rows + slot * rank;
    float error = weight * (sigmoid(dot(row, u, rank)) - label);
    for (int j = 0; j < rank; j++) row[j] -= rate * (error * u[j]);
  } else {
    float change = rate * (weight * (sigmoid(work->score[slot]) - label));
    work->along[slot] -= change;
    work->score[slot] -= change * length;
  }
}

/* The change of a slot's row, float32[rank]. */
INLINE void change_of(const ItemTraining *task, const Workspace *work, int64_t slot,
                      const float *u, const int rank, float *change) {
  if (task->by_rows) {
    const float *before = task->factors + (int64_t)work->touched[slot] * rank;
    const float *after = work->rows + slot * rank;
    for (int j = 0; j < rank; j++) change[j] = after[j] - before[j];
  } else {
    for (int j = 0; j < rank; j++) change[j] = work->along[slot] * u[j];
  }
}

INLINE int64_t add_person(const ItemTraining *task, const Workspace *work, int64_t touched,
                          const float *u, const int rank, float scale, int64_t *sum, int sign) {
  float change[MAX_RANK];
  int64_t squares = 0;
  for (int64_t slot = 0; slot < touched; slot++) {
    change_of(task, work, slot, u, rank, change);
    squares += add_steps(change, rank, scale, sum + (int64_t)work->touched[slot] * rank, sign);
  }
  return squares;
}

INLINE int train_person(const ItemTraining *task, const People *people, int64_t person,
                        const int rank, const Sum *out, Workspace *work, double *norm_out) {
  const int64_t start = people->offsets[person], held = people->offsets[person + 1] - start;
  const int32_t *items = people->items + start;
  const int64_t first = task->positive_offsets[person];
  const int64_t positives = task->positive_offsets[person + 1] - first;
  float u[MAX_RANK], change[MAX_RANK];
  *norm_out = 0.0;
  if (!held || !positives) return NOTHING_TO_SEND;
  if (!private_vector(task->factors, items, people->weights + start, held, rank, task->ridge,
                      work->gram, work->right, u))
    return NOT_FINITE;
  const float length = dot(u, u, rank);
  int64_t touched = positives;
  for (int64_t slot = 0; slot < positives; slot++) {
    int32_t item = task->positives[first + slot];
    work->slot_of[item] = (int32_t)slot;
    work->touched[slot] = item;
    take_row(task, work, slot, u, rank);
  }
  const uint32_t left = (uint32_t)(task->n_items - held);
  const int64_t draws = left ? positives * task->negatives : 0;
  Outside outside = {items, held, bucket_shift(left, held), work->starts};
  prepare_outside(&outside, left);
  for (int32_t step = 0; step < task->steps; step++) {
    Philox random = {{task->seed, 0}, {0, 0, 0, (uint64_t)step}, {0}, 8};
    int64_t used = 0, known = touched;
    for (int64_t at = 0; at < draws; at++) {
      int32_t item = item_outside(&outside, philox_below(&random, left));
      int32_t slot = work->slot_of[item];
      if (slot < 0) {
        slot = work->slot_of[item] = (int32_t)touched;
        work->touched[touched] = item;
        work->drawn[touched++] = 0;
        for (int j = 0; j < rank; j += LANES)
          __builtin_prefetch(task->factors + (int64_t)item * rank + j);
      }
      if (!work->drawn[slot]++) work->order[used++] = slot;
    }
    for (int64_t slot = known; slot < touched; slot++) take_row(task, work, slot, u, rank);
    for (int64_t slot = 0; slot < positives; slot++)
      step_row(task, work, slot, u, rank, length, 1.0f, 1.0f);
    for (int64_t at = 0; at < used; at++) {
      int64_t slot = work->order[at];
      step_row(task, work, slot, u, rank, length, (float)work->drawn[slot], 0.0f);
      work->drawn[slot] = 0;
    }
  }
  double squares = 0.0;
  for (int64_t slot = 0; slot < touched; slot++) {
    work->slot_of[work->touched[slot]] = -1;
    if (task->by_rows) {
      change_of(task, work, slot, u, rank, change);
      squares += squares_of(change, rank);
    } else {
      squares += (double)work->along[slot] * work->along[slot];
    }
  }
  const double norm = sqrt(task->by_rows ? squares : squares * squares_of(u, rank));
  *norm_out = norm;
  if (!isfinite(norm)) return NOT_FINITE;
  float scale = scale_for(norm, out);
  for (int tries = 0; tries < TRIES; tries++, scale *= SHRINK) {
    if (add_person(task, work, touched, u, rank, scale, out->sum, 1) <= out->limit) return DONE;
    add_person(task, work, touched, u, rank, scale, out->sum, -1);
  }
  return NOT_FINITE;
}

static void *part_of(char **at, int64_t bytes) {
  void *part = *at;
  *at += (bytes + 63) & ~(int64_t)63;
  return part;
}

/* Every person of `asked` takes part in one round of item training.
   sum: int64[n_items, rank]. Returns DONE, NO_MEMORY or BAD_ARGUMENT; nothing is added unless DONE. */
int homebody_item_training(const ItemTraining *task, const People *people, const Sum *out,
                           const int64_t *asked, int64_t n_asked) {
  const int rank = task->rank;
  if (rank < 1 || rank > MAX_RANK || task->steps < 1 || task->negatives < 1) return BAD_ARGUMENT;
  int64_t most = 0, most_held = 0;
  for (int64_t at = 0; at < n_asked; at++) {
    int64_t held = people->offsets[asked[at] + 1] - people->offsets[asked[at]];
    if (held > most_held) most_held = held;
    int64_t count = task->positive_offsets[asked[at] + 1] - task->positive_offsets[asked[at]];
    if (count > most) most = count;
  }
  int64_t room = most * (1 + (int64_t)task->steps * task->negatives);
  if (room > (int64_t)task->n_items) room = task->n_items;
  room += LANES;
  int64_t cells = task->by_rows ? room * rank : 0;
  int64_t buckets = 8 * most_held + 64;
  if (buckets < 64) buckets = 64;
  int64_t bytes = 4 * (int64_t)task->n_items + 20 * room + 4 * cells + 4 * buckets +
                  8 * ((int64_t)rank * rank + rank) + 64 * 12;
  char *memory = aligned_alloc(64, (bytes + 127) & ~(int64_t)63);
  if (!memory) return NO_MEMORY;
  char *at_memory = memory;
  Workspace work;
  work.slot_of = part_of(&at_memory, 4 * (int64_t)task->n_items);
  work.touched = part_of(&at_memory, 4 * room);
  work.drawn = part_of(&at_memory, 4 * room);
  work.order = part_of(&at_memory, 4 * room);
  work.score = part_of(&at_memory, 4 * room);
  work.along = part_of(&at_memory, 4 * room);
  work.rows = part_of(&at_memory, 4 * cells);
  work.starts = part_of(&at_memory, 4 * buckets);
  work.gram = part_of(&at_memory, 8 * (int64_t)rank * rank);
  work.right = part_of(&at_memory, 8 * (int64_t)rank);
  memset(work.slot_of, 0xFF, 4 * (int64_t)task->n_items);
  for (int64_t at = 0; at < n_asked; at++) {
    double *norm = out->norms + at;
    int status;
    switch (rank) { /* known ranks unroll */
      case 16: status = train_person(task, people, asked[at], 16, out, &work, norm); break;
      case 32: status = train_person(task, people, asked[at], 32, out, &work, norm); break;
      case 64: status = train_person(task, people, asked[at], 64, out, &work, norm); break;
      default: status = train_person(task, people, asked[at], rank, out, &work, norm);
    }
    out->status[at] = (uint8_t)status;
  }
  free(memory);
  return DONE;
}

/* ---- Vectors --------------------------------------------------------------------- */

/* Adds entries at their places, clipped; the same as add_person for a vector that is not rows. */
INLINE int add_entries(const float *values, const int64_t *places, int64_t count, const Sum *out,
                       double *norm_out) {
  const double norm = sqrt(squares_of(values, count));
  *norm_out = norm;
  if (!isfinite(norm)) return NOT_FINITE;
  float scale = scale_for(norm, out);
  for (int tries = 0;; tries++, scale *= SHRINK) {
    int64_t squares = 0;
    if (tries == TRIES) return NOT_FINITE;
    for (int64_t at = 0; at < count; at++) {
      int64_t step = (int32_t)(values[at] * scale);
      squares += step * step;
    }
    if (squares <= out->limit) break;
  }
  for (int64_t at = 0; at < count; at++) out->sum[places[at]] += (int32_t)(values[at] * scale);
  return DONE;
}

static int64_t most_entries(const People *people, const int64_t *asked, int64_t n_asked) {
  int64_t most = 1;
  for (int64_t at = 0; at < n_asked; at++) {
    int64_t count = people->offsets[asked[at] + 1] - people->offsets[asked[at]];
    if (count > most) most = count;
  }
  return most;
}

/* Every person of `asked` gives one vector, sparse or dense, in compressed rows: `items` are places
   in the sum, `weights` what stands there. An empty row adds nothing and is DONE. This is the way
   into the sum for every task whose vectors are made elsewhere. */
int homebody_add_vectors(const People *people, const Sum *out, const int64_t *asked,
                         int64_t n_asked) {
  int64_t *places = malloc(8 * most_entries(people, asked, n_asked));
  if (!places) return NO_MEMORY;
  for (int64_t at = 0; at < n_asked; at++) {
    int64_t start = people->offsets[asked[at]], count = people->offsets[asked[at] + 1] - start;
    for (int64_t entry = 0; entry < count; entry++) places[entry] = people->items[start + entry];
    out->status[at] = (uint8_t)add_entries(people->weights + start, places, count, out,
                                           out->norms + at);
  }
  free(places);
  return DONE;
}

/* Every person of `asked` gives x x', packed row by row, off the diagonal times the root of two.
   people: items are positions among the K top items. sum: int64[K (K + 1) / 2]. */
int homebody_item_statistics(const People *people, const Sum *out, int64_t top_items,
                             const int64_t *asked, int64_t n_asked) {
  int64_t most = most_entries(people, asked, n_asked), cells = most * (most + 1) / 2;
  char *memory = malloc(12 * cells);
  if (!memory) return NO_MEMORY;
  int64_t *places = (int64_t *)memory;
  float *values = (float *)(memory + 8 * cells);
  const double root = sqrt(2.0);
  for (int64_t at = 0; at < n_asked; at++) {
    int64_t start = people->offsets[asked[at]], count = people->offsets[asked[at] + 1] - start;
    const float *x = people->weights + start;
    const int32_t *positions = people->items + start;
    int64_t used = 0;
    out->norms[at] = 0.0;
    out->status[at] = NOTHING_TO_SEND;
    if (!count) continue;
    for (int64_t i = 0; i < count; i++) {
      int64_t row = positions[i], from = row * top_items - row * (row - 1) / 2 - row;
      double xi = x[i];
      values[used] = (float)(xi * xi);
      places[used++] = from + row;
      for (int64_t j = i + 1; j < count; j++) {
        values[used] = (float)(xi * x[j] * root);
        places[used++] = from + positions[j];
      }
    }
    out->status[at] =
        (uint8_t)add_entries(values, places, used, out, out->norms + at);
  }
  free(memory);
  return DONE;
}

/* ---- Evaluation ------------------------------------------------------------------------------ */

/* The private vectors of `asked` under a table, which a simulation may see and a server never: by the
   ridge solve, or x F where `project` is not 0, for any rank.
   vectors: float32[asked, rank]; zeros for an empty history. */
int homebody_private_vectors(const float *factors, int32_t rank, double ridge, int32_t project,
                             const People *people, const int64_t *asked, int64_t n_asked,
                             float *vectors) {
  if (rank < 1 || (!project && rank > MAX_RANK)) return BAD_ARGUMENT;
  double *memory = malloc(sizeof(double) * ((project ? 0 : (int64_t)rank * rank) + rank));
  if (!memory) return NO_MEMORY;
  memset(vectors, 0, sizeof(float) * rank * n_asked);
  for (int64_t at = 0; at < n_asked; at++) {
    int64_t start = people->offsets[asked[at]], held = people->offsets[asked[at] + 1] - start;
    if (!held) continue;
    if (!project) {
      private_vector(factors, people->items + start, people->weights + start, held, rank, ridge,
                     memory + rank, memory, vectors + at * rank);
      continue;
    }
    memset(memory, 0, sizeof(double) * rank);
    for (int64_t entry = start; entry < start + held; entry++) {
      const float *row = factors + (int64_t)people->items[entry] * rank;
      const double x = people->weights[entry];
      for (int j = 0; j < rank; j++) memory[j] += x * row[j];
    }
    for (int j = 0; j < rank; j++) vectors[at * rank + j] = (float)memory[j];
  }
  free(memory);
  return DONE;
}
