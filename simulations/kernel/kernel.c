/* The update of many devices at once: what `client_sdk` computes for one person, for a range of them.

   Rules a reader can check line by line:

   1. Each function does, for each person of a range, what one encoder of `client_sdk.federation`
      does, then what the outbound guard does, then what `privacy.bounded_sum.to_lattice` does, and
      adds the integers to the caller's sum. No float is ever added across people, so the sum does
      not depend on their order, on threads or on workers.
   2. Only the rows that a person touches are read or written.
   3. Negatives are those of numpy's Philox4x64 and its bounded integers (Lemire 2019, arXiv
      1805.10941), draw for draw. Its words are the same for everyone and are made once a call.
   4. Floats are added in fixed lanes, 16 of float32 or 8 of float64, and never contracted
      (-ffp-contract=off), so every instruction set gives the same bits.
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
/* Or its norm is taken a little larger beforehand: see `add_along`. */
#define GROWN (1.0 + 0x1p-21)
#define LANES 16
#define MAX_RANK 1024
#define QUICK_RANK 128 /* largest rank whose private vectors are solved in float32 and refined */
#define LISTED 16384   /* largest number of items that are listed one by one */
#define INLINE static inline __attribute__((always_inline))

/* Eight floats or four doubles. Written out only where lanes are folded; elsewhere compilers find the
   widest vectors by themselves. */
typedef float Floats __attribute__((vector_size(32), aligned(4)));
typedef double Doubles __attribute__((vector_size(32), aligned(8)));
typedef float Halves __attribute__((vector_size(16), aligned(4)));
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define WIDE_SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t Places __attribute__((vector_size(32)));
typedef int64_t WidePlaces __attribute__((vector_size(32)));
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (Places){__VA_ARGS__})
#define WIDE_SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (WidePlaces){__VA_ARGS__})
#endif

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

/* Folds two vectors: the sums of lanes that are 4, 2 or 1 apart, first those of a. */
#define FOLD_4(a, b) \
  (SHUFFLED(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLED(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define FOLD_2(a, b) \
  (SHUFFLED(a, b, 0, 1, 4, 5, 8, 9, 12, 13) + SHUFFLED(a, b, 2, 3, 6, 7, 10, 11, 14, 15))
#define FOLD_1(a, b) \
  (SHUFFLED(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + SHUFFLED(a, b, 1, 3, 5, 7, 9, 11, 13, 15))
#define WIDE_FOLD_2(a, b) (WIDE_SHUFFLED(a, b, 0, 1, 4, 5) + WIDE_SHUFFLED(a, b, 2, 3, 6, 7))
#define WIDE_FOLD_1(a, b) (WIDE_SHUFFLED(a, b, 0, 2, 4, 6) + WIDE_SHUFFLED(a, b, 1, 3, 5, 7))

/* The dot products of u with eight rows of a rank that is a multiple of eight: folding eight at once
   takes two shuffles a row where one at a time takes six. */
INLINE void dots(const float *const rows[8], const float *u, int rank, float *scores) {
  Floats sums[8];
  for (int row = 0; row < 8; row++) {
    Floats lanes = {0};
    for (int at = 0; at < rank; at += 8)
      lanes += *(const Floats *)(rows[row] + at) * *(const Floats *)(u + at);
    sums[row] = lanes;
  }
  for (int pair = 0; pair < 4; pair++) sums[pair] = FOLD_4(sums[2 * pair], sums[2 * pair + 1]);
  for (int pair = 0; pair < 2; pair++) sums[pair] = FOLD_2(sums[2 * pair], sums[2 * pair + 1]);
  *(Floats *)scores = FOLD_1(sums[0], sums[1]);
}

/* Eight by eight entries of F' diag(x) F: `down` and `across` are where the first row of F has the
   tile's first. A function by itself, so that the compiler keeps the tile in registers. */
static __attribute__((noinline)) void gram_tile(const float *down, const float *across,
                                                const int32_t *items, const float *x,
                                                int64_t count, int64_t rank, Floats *out) {
  Floats tile[8] = {0};
  for (int64_t row = 0; row < count; row++) {
    const int64_t at = items[row] * rank;
    const Floats weighted = x[row] * *(const Floats *)(across + at);
    for (int i = 0; i < 8; i++) tile[i] += down[at + i] * weighted;
  }
  for (int i = 0; i < 8; i++) out[i] = tile[i];
}

/* F' diag(x) F in float32, tile by tile from the diagonal on. */
INLINE void quick_gram(const float *factors, const int32_t *items, const float *x, int64_t count,
                       const int rank, float *gram) {
  for (int down = 0; down < rank; down += 8)
    for (int across = down; across < rank; across += 8) {
      Floats tile[8];
      gram_tile(factors + down, factors + across, items, x, count, rank, tile);
      for (int i = 0; i < 8; i++)
        *(Floats *)(gram + (int64_t)(down + i) * rank + across) = tile[i];
    }
  for (int i = 0; i < rank; i++)
    for (int j = 0; j < (i & ~7); j++) gram[(int64_t)i * rank + j] = gram[(int64_t)j * rank + i];
}

/* Gauss and Jordan's inverse in place; a positive definite matrix needs no pivoting. Returns 0 where
   it is none. */
INLINE int invert(float *matrix, const int rank) {
  float line[QUICK_RANK];
  for (int pivot = 0; pivot < rank; pivot++) {
    float *pivots = matrix + (int64_t)pivot * rank;
    if (!(pivots[pivot] > 0.0f)) return 0;
    const float reciprocal = 1.0f / pivots[pivot];
    for (int j = 0; j < rank; j++) line[j] = pivots[j] * reciprocal;
    for (int i = 0; i < rank; i++) {
      float *other = matrix + (int64_t)i * rank;
      const float times = other[pivot];
      for (int j = 0; j < rank; j++) other[j] -= times * line[j];
      other[pivot] = -times * reciprocal;
    }
    for (int j = 0; j < rank; j++) pivots[j] = line[j];
    pivots[pivot] = reciprocal;
  }
  return 1;
}

/* right = F' x, in float64. */
INLINE void right_side(const float *factors, const int32_t *items, const float *x, int64_t count,
                       const int rank, double *right) {
  memset(right, 0, sizeof(double) * rank);
  for (int64_t at = 0; at < count; at += 4) {
    const float *f[4];
    double weight[4];
    for (int row = 0; row < 4; row++) {
      f[row] = factors + (int64_t)items[at + row < count ? at + row : at] * rank;
      weight[row] = at + row < count ? x[at + row] : 0.0;
    }
    for (int j = 0; j < rank; j++)
      right[j] += (weight[0] * f[0][j] + weight[1] * f[1][j]) +
                  (weight[2] * f[2][j] + weight[3] * f[3][j]);
  }
}

/* left = right - (F' diag(x) F + ridge I) found, in float64, without the matrix. */
INLINE void residual(const float *factors, const int32_t *items, const float *x, int64_t count,
                     const int rank, double ridge, const double *right, const double *found,
                     double *left) {
  for (int j = 0; j < rank; j++) left[j] = right[j] - ridge * found[j];
  for (int64_t row = 0; row < count; row += 4) {
    const float *f[4];
    double times[4];
    Doubles sums[4];
    for (int i = 0; i < 4; i++) {
      f[i] = factors + (int64_t)items[row + i < count ? row + i : row] * rank;
      Doubles lanes = {0};
      for (int at = 0; at < rank; at += 4)
        lanes += __builtin_convertvector(*(const Halves *)(f[i] + at), Doubles) *
                 *(const Doubles *)(found + at);
      sums[i] = lanes;
    }
    for (int i = 0; i < 2; i++) sums[i] = WIDE_FOLD_2(sums[2 * i], sums[2 * i + 1]);
    *(Doubles *)times = WIDE_FOLD_1(sums[0], sums[1]);
    for (int i = 0; i < 4; i++) times[i] *= row + i < count ? x[row + i] : 0.0;
    for (int j = 0; j < rank; j++)
      left[j] -= (times[0] * f[0][j] + times[1] * f[1][j]) +
                 (times[2] * f[2][j] + times[3] * f[3][j]);
  }
}

/* Like `private_vector` for a rank that is a multiple of eight: the matrix is added up and
   inverted in float32, and one step of refinement, whose residual is in float64, takes the error of
   that away (Wilkinson 1963). Where the step says that float32 was not enough, 0: take the slow way.
   inverse: float[rank, rank] of workspace. */
INLINE int quick_private_vector(const float *factors, const int32_t *items, const float *x,
                                int64_t count, const int rank, double ridge, float *inverse,
                                float *u) {
  double right[QUICK_RANK], found[QUICK_RANK], left[QUICK_RANK], length = 0.0, moved = 0.0;
  float change[QUICK_RANK];
  quick_gram(factors, items, x, count, rank, inverse);
  for (int i = 0; i < rank; i++) inverse[(int64_t)i * rank + i] += (float)ridge;
  if (!invert(inverse, rank)) return 0;
  right_side(factors, items, x, count, rank, right);
  for (int j = 0; j < rank; j++) found[j] = 0.0, left[j] = right[j];
  for (int step = 0; step < 2; step++) {
    if (step) residual(factors, items, x, count, rank, ridge, right, found, left);
    for (int j = 0; j < rank; j++) change[j] = 0.0f;
    for (int i = 0; i < rank; i += 4) {
      const float *lines = inverse + (int64_t)i * rank;
      const float a = (float)left[i], b = (float)left[i + 1];
      const float c = (float)left[i + 2], d = (float)left[i + 3];
      for (int j = 0; j < rank; j++)
        change[j] += (a * lines[j] + b * lines[rank + j]) +
                     (c * lines[2 * rank + j] + d * lines[3 * rank + j]);
    }
    for (int j = 0; j < rank; j++) found[j] += change[j];
  }
  for (int j = 0; j < rank; j++) {
    u[j] = (float)found[j];
    length += found[j] * found[j], moved += (double)change[j] * change[j];
  }
  /* What the step moved is the error before it, and its square the error after. */
  return moved <= 1e-8 * length;
}

/* u = (F' diag(x) F + ridge I)^-1 F' x over the history's rows, in float64, by Cholesky.
   gram: float64[rank, rank] of workspace. Returns 0 where the matrix is not positive definite. */
INLINE int private_vector(const float *factors, const int32_t *items, const float *x, int64_t count,
                          int rank, double ridge, double *gram, double *right, float *u) {
  if (rank % 8 == 0 && rank <= QUICK_RANK &&
      quick_private_vector(factors, items, x, count, rank, ridge, (float *)gram, u))
    return 1;
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

/* chances = 1 / (1 + e^-scores); both have room for whole lanes. e^x = 2^n e^r with |r| <= ln 2 / 2,
   by Cephes' polynomial (Moshier 1989): within 2e-7 of the value. */
INLINE void sigmoids(const float *scores, int64_t count, float *chances) {
  const float to_integer = 12582912.0f; /* 1.5 * 2^23: its last bits are n */
  for (int64_t from = 0; from < count; from += LANES)
    for (int64_t at = from; at < from + LANES; at++) {
      float x = -scores[at];
      x = x > 88.0f ? 88.0f : x, x = x < -87.0f ? -87.0f : x;
      const float shifted = x * 1.44269504f + to_integer, n = shifted - to_integer;
      const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
      float power = 1.9875691500e-4f;
      power = power * r + 1.3981999507e-3f, power = power * r + 8.3334519073e-3f;
      power = power * r + 4.1665795894e-2f, power = power * r + 1.6666665459e-1f;
      power = power * r + 5.0000001201e-1f, power = power * (r * r) + r + 1.0f;
      uint32_t bits, exponent;
      memcpy(&bits, &power, 4), memcpy(&exponent, &shifted, 4);
      bits += exponent << 23;
      memcpy(&power, &bits, 4);
      chances[at] = 1.0f / (1.0f + power);
    }
}

/* ---- Item training -------------------------------------------------------------------------- */

/* Finds the k-th item that a person never had: k plus the number of avoided items before it.
   In a small catalogue all of them are listed. Else starts[b] is that number for the first k of
   bucket b, so that a look-up reads an item or two. */
typedef struct {
  const int32_t *avoid;
  int64_t count;
  int shift;
  int32_t *starts;
} Outside;

/* listed[k] = the k-th item outside `avoid`, for k < left; room for two times the lanes more. */
INLINE void list_outside(const int32_t *avoid, int64_t count, int32_t left, int32_t *listed) {
  int32_t rank = 0;
  for (int64_t before = 0; before <= count; before++) {
    const int32_t end = before < count ? avoid[before] - (int32_t)before : left;
    /* Past the end is written, and written over by the next gap. */
    for (int32_t at = rank; at < end; at += 2 * LANES)
      for (int32_t lane = 0; lane < 2 * LANES; lane++)
        listed[at + lane] = at + (int32_t)before + lane;
    rank = end;
  }
}

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
  uint32_t *words;   /* [steps, words_a_step] what Philox gives each person alike */
  int64_t words_a_step;
  int32_t *slot_of;  /* [n_items] where an item stands among the touched ones; -1 where it doesn't */
  int32_t *touched;  /* [room] items, the positives first, then in order of first use */
  int32_t *drawn;    /* [room] how often this step drew it; zeros between steps */
  uint32_t *ranks;   /* [words_a_step] this step's draws */
  float *score;      /* [room] u f, as it changes */
  float *chance;     /* [room] its logistic */
  float *along;      /* [room] the change so far is `along` times u */
  float *rows;       /* [room, rank] rows as they change; only by rows */
  int32_t *listed;   /* [LISTED + 2 LANES] the items outside a history, in a small catalogue */
  int32_t *starts;   /* [buckets] of Outside */
  double *gram;
  double *right;
} Workspace;

/* Where the row of a slot is read: the table's, or the person's copy. */
INLINE const float *row_of(const ItemTraining *task, const Workspace *work, int64_t slot,
                           const int rank) {
  if (task->by_rows) return work->rows + slot * rank;
  return task->factors + (int64_t)work->touched[slot] * rank;
}

/* score = u f of the slots [from, to). */
INLINE void score_rows(const ItemTraining *task, Workspace *work, int64_t from, int64_t to,
                       const float *u, const int rank) {
  int64_t slot = from;
  if (rank % 8 == 0)
    for (; slot < to; slot += 8) {
      const float *rows[8];
      for (int64_t i = 0; i < 8; i++)
        rows[i] = row_of(task, work, slot + i < to ? slot + i : slot, rank);
      dots(rows, u, rank, work->score + slot);
    }
  for (; slot < to; slot++) work->score[slot] = dot(row_of(task, work, slot, rank), u, rank);
}

/* Reads the rows of slots [from, to), which are used for the first time. */
INLINE void take_rows(const ItemTraining *task, Workspace *work, int64_t from, int64_t to,
                      const float *u, const int rank) {
  memset(work->along + from, 0, sizeof(float) * (to - from));
  if (!task->by_rows) score_rows(task, work, from, to, u, rank);
  else
    for (int64_t slot = from; slot < to; slot++)
      memcpy(work->rows + slot * rank, task->factors + (int64_t)work->touched[slot] * rank,
             sizeof(float) * rank);
}

/* philox_below(left) for each of `draws`, from the words that everyone shares.
   Where one word might have to be drawn again (once in a million) it is all done one by one. */
INLINE void draw_ranks(const ItemTraining *task, const Workspace *work, int32_t step,
                       uint32_t left, int64_t draws) {
  const uint32_t *words = work->words + step * work->words_a_step;
  uint32_t *ranks = work->ranks, again = 0;
  for (int64_t at = 0; at < draws; at++) {
    const uint64_t product = (uint64_t)words[at] * left;
    again |= (uint32_t)product < left;
    ranks[at] = (uint32_t)(product >> 32);
  }
  if (!again) return;
  Philox random = {{task->seed, 0}, {0, 0, 0, (uint64_t)step}, {0}, 8};
  for (int64_t at = 0; at < draws; at++) ranks[at] = philox_below(&random, left);
}

/* Draws a step's negatives and gives each new one a slot; returns how many slots there are then.
   Without branches, as nobody can guess which draw is the first of its item; a function by itself, so
   that the compiler keeps all of it in registers.
   outside: NULL where the items are listed. */
static __attribute__((noinline)) int64_t draw_items(const ItemTraining *task, const Workspace *work,
                                                    const Outside *outside, int32_t step,
                                                    uint32_t left, int64_t draws,
                                                    int64_t touched) {
  draw_ranks(task, work, step, left, draws);
  uint32_t *ranks = work->ranks;
  if (outside)
    for (int64_t at = 0; at < draws; at++) {
      ranks[at] = (uint32_t)item_outside(outside, ranks[at]);
      const float *row = task->factors + (int64_t)ranks[at] * task->rank;
      for (int j = 0; j < task->rank; j += LANES) __builtin_prefetch(row + j);
    }
  const int32_t *listed = work->listed;
  int32_t *slot_of = work->slot_of, *items = work->touched, *drawn = work->drawn;
  int32_t slots = (int32_t)touched;
  for (int64_t at = 0; at < draws; at++) {
    const int32_t item = outside ? (int32_t)ranks[at] : listed[ranks[at]];
    const int32_t stands = slot_of[item], fresh = stands < 0, slot = fresh ? slots : stands;
    slot_of[item] = slot;
    items[slots] = item;
    slots += fresh;
    drawn[slot]++;
  }
  return slots;
}

/* One gradient step of the touched rows down the weighted logistic loss: positives weigh one,
   negatives as often as they were drawn, and what this step did not draw does not move. */
INLINE void step_rows(const ItemTraining *task, Workspace *work, int64_t positives,
                      int64_t touched, const float *u, const int rank, float length) {
  const float rate = (float)task->learning_rate;
  if (task->by_rows) score_rows(task, work, 0, touched, u, rank);
  float *score = work->score, *chance = work->chance, *along = work->along;
  const int32_t *drawn = work->drawn;
  sigmoids(score, touched, chance);
  for (int64_t slot = 0; slot < positives; slot++) chance[slot] = chance[slot] - 1.0f;
  for (int64_t slot = positives; slot < touched; slot++)
    chance[slot] = (float)drawn[slot] * chance[slot];
  if (task->by_rows) {
    for (int64_t slot = 0; slot < touched; slot++) {
      const float error = chance[slot];
      float *row = work->rows + slot * rank;
      for (int j = 0; j < rank; j++) row[j] -= rate * (error * u[j]);
    }
    return;
  }
  for (int64_t slot = 0; slot < touched; slot++) {
    const float change = rate * chance[slot];
    along[slot] -= change;
    score[slot] -= change * length;
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

INLINE int64_t add_changes(const ItemTraining *task, const Workspace *work, int64_t touched,
                           const float *u, const int rank, float scale, int64_t *sum, int sign) {
  float change[MAX_RANK];
  int64_t squares = 0;
  for (int64_t slot = 0; slot < touched; slot++) {
    change_of(task, work, slot, u, rank, change);
    squares += add_steps(change, rank, scale, sum + (int64_t)work->touched[slot] * rank, sign);
  }
  return squares;
}

/* Adds trunc(along * (u * scale)) of each touched row to the sum, without looking at the squares of
   what is added, because they are bounded beforehand. With e = 2^-24, the largest relative error of
   one operation: `along`, `u` and `scale` are exact, u * scale and its product with `along` are
   rounded once each, truncation makes nothing longer. So the steps' norm is at most
   (1 + e)^2 scale |along| |u|, scale is at most (1 + e) keep STEPS / (GROWN norm), and `norm` was
   added up in float64 (error below 1e-9). As GROWN is 1 + 8 e, the norm is below keep STEPS.
   Products that underflow would break this; `steady` keeps them below one step, which is none.
   Returns 0, with nothing added, where that can't be said. */
INLINE int add_along(const Workspace *work, int64_t touched, const float *u, const int rank,
                     float scale, int64_t *sum) {
  float scaled[MAX_RANK], largest = 0.0f;
  for (int j = 0; j < rank; j++) scaled[j] = u[j] * scale;
  for (int j = 0; j < rank; j++) largest = fabsf(scaled[j]) > largest ? fabsf(scaled[j]) : largest;
  const int steady = largest > 0x1p-60f && largest < 0x1p90f;
  if (!steady) return 0;
  const float *along = work->along;
  for (int64_t slot = 0; slot < touched; slot++) {
    int64_t *row = sum + (int64_t)work->touched[slot] * rank;
    for (int j = 0; j < rank; j++) row[j] += (int32_t)(along[slot] * scaled[j]);
  }
  return 1;
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
  const uint32_t left = (uint32_t)(task->n_items - held);
  const int64_t draws = left ? positives * task->negatives : 0;
  const int all_listed = left <= LISTED;
  Outside outside = {items, held, bucket_shift(left, held), work->starts};
  if (all_listed) list_outside(items, held, (int32_t)left, work->listed);
  else prepare_outside(&outside, left);
  int32_t *touched_items = work->touched;
  int64_t touched = positives, known = 0;
  for (int64_t slot = 0; slot < positives; slot++) {
    touched_items[slot] = task->positives[first + slot];
    work->slot_of[touched_items[slot]] = (int32_t)slot;
  }
  for (int32_t step = 0; step < task->steps; step++) {
    touched = draw_items(task, work, all_listed ? NULL : &outside, step, left, draws, touched);
    take_rows(task, work, known, touched, u, rank);
    known = touched;
    step_rows(task, work, positives, touched, u, rank, length);
    memset(work->drawn, 0, sizeof(int32_t) * touched);
  }
  for (int64_t slot = 0; slot < touched; slot++) work->slot_of[touched_items[slot]] = -1;
  double squares = 0.0;
  if (task->by_rows)
    for (int64_t slot = 0; slot < touched; slot++) {
      change_of(task, work, slot, u, rank, change);
      squares += squares_of(change, rank);
    }
  else squares = squares_of(work->along, touched) * squares_of(u, rank);
  const double norm = sqrt(squares);
  *norm_out = norm;
  if (!isfinite(norm)) return NOT_FINITE;
  if (!task->by_rows &&
      add_along(work, touched, u, rank, scale_for(GROWN * norm, out), out->sum))
    return DONE;
  float scale = scale_for(norm, out);
  for (int tries = 0; tries < TRIES; tries++, scale *= SHRINK) {
    if (add_changes(task, work, touched, u, rank, scale, out->sum, 1) <= out->limit) return DONE;
    add_changes(task, work, touched, u, rank, scale, out->sum, -1);
  }
  return NOT_FINITE;
}

/* The next part of the workspace; NULL while it is only measured. */
static void *part_of(char *memory, int64_t *at, int64_t bytes) {
  const int64_t start = *at;
  *at += (bytes + 63) & ~(int64_t)63;
  return memory ? memory + start : NULL;
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
  const int64_t words = most * task->negatives;
  const int64_t cells = task->by_rows ? room * rank : 0;
  const int64_t buckets = 8 * most_held + 64;
  Workspace work = {0};
  char *memory = NULL;
  for (int pass = 0; pass < 2; pass++) {
    int64_t at = 0;
    work.slot_of = part_of(memory, &at, 4 * (int64_t)task->n_items);
    work.touched = part_of(memory, &at, 4 * room);
    work.drawn = part_of(memory, &at, 4 * room);
    work.score = part_of(memory, &at, 4 * room);
    work.chance = part_of(memory, &at, 4 * room);
    work.along = part_of(memory, &at, 4 * room);
    work.rows = part_of(memory, &at, 4 * cells);
    work.listed = part_of(memory, &at, 4 * (LISTED + 2 * LANES));
    work.starts = part_of(memory, &at, 4 * buckets);
    work.ranks = part_of(memory, &at, 4 * words);
    work.words = part_of(memory, &at, 4 * words * task->steps);
    work.gram = part_of(memory, &at, 8 * (int64_t)rank * rank);
    work.right = part_of(memory, &at, 8 * (int64_t)rank);
    if (!pass && !(memory = aligned_alloc(64, at + 64))) return NO_MEMORY;
  }
  work.words_a_step = words;
  for (int32_t step = 0; step < task->steps; step++) {
    Philox random = {{task->seed, 0}, {0, 0, 0, (uint64_t)step}, {0}, 8};
    for (int64_t at = 0; at < words; at++)
      work.words[step * words + at] = philox_next(&random);
  }
  memset(work.drawn, 0, 4 * room);
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
