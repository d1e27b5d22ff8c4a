/* A step of AdamW over a tensor of which something is kept in 16 bits: one pass over memory.

   What update.py does part by part: read to float32, move by AdamW's formulas (adamw.py), round
   stochastically on the way back (rounding.py). The order of operations is that of torch's fused
   kernel, so that the results are the same bits. And what is to be known of gradients before: their
   norm, their largest elements, how far averages lag behind. library.py compiles it, with BLOCK, the
   elements that share one cut of the deck; kernel.py calls it. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

enum format { FLOAT32, BFLOAT16, FLOAT16 };

#define LINE 64   /* elements that may share a line of a cache */
#define LANES 32  /* sums that grow side by side, as an addition takes several cycles */
#define RUN 128   /* elements that are asked for at a time */
#define AHEAD 256 /* elements; a processor does not look beyond the end of a page by itself */
#define INLINE static inline __attribute__((always_inline))

/* An array, what of it is rounded how: `cuts` holds a place in the deck for every block, of
   16 bits; in float16 alone it is kept over a scale. */
struct stored {
    void *restrict data;
    int32_t format;
    float read;     /* times a number that is read */
    float write[2]; /* times a number before it is rounded, one after the other */
    const uint16_t *restrict cuts;
};

struct step {
    struct stored weight, first, second; /* first and second: the averages */
    const void *restrict grad;           /* in the format of the weight */
    const uint16_t *restrict deck;       /* BLOCK shuffled numbers, twice in a row */
    int64_t here;                        /* which element of the whole tensor is data[0] */
    int64_t count;                       /* elements that are here */
    float keep;                          /* 1 − lr · λ */
    float rise_first;                    /* 1 − β₁ */
    float decay_second, rise_second;     /* β₂, 1 − β₂ */
    float rate;                          /* −lr / (1 − β₁ᵗ) */
    float root;                          /* √(1 − β₂ᵗ) */
    float eps;
};

INLINE uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* float16 by its bits, in the place where float32 keeps them: the exponent counts from 112 less. */
INLINE float of_float16(uint16_t half)
{
    const uint32_t magnitude = (half & 0x7fffu) << 13, sign = (half & 0x8000u) << 16;
    const uint32_t normal = magnitude + (112u << 23);
    const float tiny = float_of(magnitude + (113u << 23)) - 0x1p-14f; /* has no leading one */
    const uint32_t finite = magnitude < 1u << 23 ? bits_of(tiny) : normal;
    return float_of(sign | (magnitude < 31u << 23 ? finite : normal + (112u << 23)));
}

/* The other way, of a number that is 2¹¹² too small: then subnormals round as all others. */
INLINE uint16_t to_float16(float low, uint32_t noise)
{
    const uint32_t bits = bits_of(low);
    const uint32_t magnitude = ((bits & 0x7fffffff) + noise) >> 13;
    const uint32_t finite = magnitude < 0x7c00 ? magnitude : 0x7c00;
    return (uint16_t)((bits >> 16 & 0x8000) | (low == low ? finite : 0x7e00));
}

INLINE uint16_t to_bfloat16(float value, uint32_t noise)
{
    return (uint16_t)(value == value ? (bits_of(value) + noise) >> 16 : 0x7fc0);
}

INLINE float of_bfloat16(uint16_t half)
{
    return float_of((uint32_t)half << 16);
}

/* Make elements begin … begin + count - 1, at most RUN, ready for `get`: ask the memory for those
   that come AHEAD; float16 is widened by the processor's own instruction, eight at a time. */
INLINE void prepare(const void *from, enum format format, int64_t begin, int64_t count,
                    float *restrict room)
{
    const int64_t size = format == FLOAT32 ? sizeof(float) : sizeof(uint16_t);
    const char *data = (const char *)from + begin * size;
    for (int64_t byte = 0; byte < RUN * size; byte += 64)
        __builtin_prefetch(data + AHEAD * size + byte);
    if (format != FLOAT16)
        return;
    const uint16_t *restrict halves = (const uint16_t *)data;
    int64_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(room + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(halves + i))));
#endif
    for (; i < count; i++)
        room[i] = of_float16(halves[i]);
}

/* Return element begin + i of what was prepared from `begin` on. */
INLINE float get(const void *from, enum format format, int64_t begin, int64_t i, const float *room)
{
    if (format == FLOAT32)
        return ((const float *)from)[begin + i];
    return format == FLOAT16 ? room[i] : of_bfloat16(((const uint16_t *)from)[begin + i]);
}

/* Store a number as one of its two neighbours in a format. */
INLINE void put(const struct stored *to, enum format format, int64_t i, float value, uint32_t noise)
{
    if (format == FLOAT32) {
        ((float *)to->data)[i] = value;
        return;
    }
    uint16_t *data = to->data;
    if (format == BFLOAT16)
        data[i] = to_bfloat16(value, noise);
    else
        data[i] = to_float16(value * to->write[0] * to->write[1], noise >> 3);
}

/* Return the numbers of a block: any, where nothing is rounded. */
INLINE const uint16_t *hand(const struct step *s, const struct stored *to, enum format format,
                            int64_t block)
{
    return format == FLOAT32 ? s->deck : s->deck + to->cuts[block];
}

/* Move elements begin … end - 1, all of one block. */
INLINE void move_block(const struct step *s, int64_t begin, int64_t end, enum format weights,
                       enum format averages)
{
    const struct stored weight = s->weight, first = s->first, second = s->second;
    const int64_t block = (s->here + begin) / BLOCK;
    const int64_t place = s->here + begin - block * BLOCK; /* of the first one, in its block */
    const uint16_t *restrict of_weight = hand(s, &weight, weights, block) + place;
    const uint16_t *restrict of_first = hand(s, &first, averages, block) + place;
    const uint16_t *restrict of_second = hand(s, &second, averages, block) + place;
    const int near = s->rise_first < 0.5f; /* lerp starts from the nearer end */
    const float share = near ? s->rise_first : s->rise_first - 1;

    for (int64_t at = begin; at < end; at += RUN) {
        const int64_t count = at + RUN < end ? RUN : end - at;
        float room[4][RUN];
        prepare(s->grad, weights, at, count, room[0]);
        prepare(weight.data, weights, at, count, room[1]);
        prepare(first.data, averages, at, count, room[2]);
        prepare(second.data, averages, at, count, room[3]);

#pragma omp simd
        for (int64_t i = 0; i < count; i++) {
            const float g = get(s->grad, weights, at, i, room[0]);
            float m = get(first.data, averages, at, i, room[2]);
            float v = get(second.data, averages, at, i, room[3]);
            if (averages == FLOAT16) {
                m *= first.read;
                v *= second.read;
                v *= v; /* its root is what is kept */
            }
            m = fmaf(share, g - m, near ? m : g);
            v = fmaf(s->rise_second * g, g, s->decay_second * v);
            const float kept = get(weight.data, weights, at, i, room[1]) * s->keep;
            const float moved = kept + s->rate * m / (sqrtf(v) / s->root + s->eps);
            const int64_t card = at - begin + i;
            put(&weight, weights, at + i, moved, of_weight[card]);
            put(&first, averages, at + i, m, of_first[card]);
            put(&second, averages, at + i, averages == FLOAT16 ? sqrtf(v) : v, of_second[card]);
        }
    }
}

#define CASE(weights, averages)                                                                    \
    case 3 * weights + averages: move_block(s, begin, stop, weights, averages); break;

static void move_range(const struct step *s, int64_t begin, int64_t end)
{
    while (begin < end) {
        const int64_t next = ((s->here + begin) / BLOCK + 1) * BLOCK - s->here;
        const int64_t stop = next < end ? next : end;
        switch (3 * s->weight.format + s->first.format) {
            CASE(FLOAT32, BFLOAT16)
            CASE(FLOAT32, FLOAT16)
            CASE(BFLOAT16, FLOAT32)
            CASE(BFLOAT16, BFLOAT16)
            CASE(BFLOAT16, FLOAT16)
            CASE(FLOAT16, FLOAT32)
            CASE(FLOAT16, BFLOAT16)
            CASE(FLOAT16, FLOAT16)
        }
        begin = stop;
    }
}

/* Where part `part` of `parts` of a tensor begins: no two parts share a line of a cache. */
static int64_t begin_of(int64_t count, int64_t part, int64_t parts)
{
    const int64_t begin = (count * part / parts + LINE - 1) / LINE * LINE;
    return begin < count ? begin : count;
}

/* Move one part of every tensor; nothing is found. */
void move(const struct step *steps, int64_t tensors, int64_t part, int64_t parts, void *found)
{
    (void)found;
    for (const struct step *s = steps; s < steps + tensors; s++)
        move_range(s, begin_of(s->count, part, parts), begin_of(s->count, part + 1, parts));
}

struct gradient {
    const void *data;
    int32_t format;
    int64_t count;
};

struct measure {
    double squares; /* the sum of them */
    double peak;    /* max |g| */
};

/* Add an element to a measure. */
INLINE void look_at(float g, double *restrict squares, uint32_t *restrict peak)
{
    const uint32_t magnitude = bits_of(g) & 0x7fffffff; /* ordered as the numbers are */
    *peak = magnitude > *peak ? magnitude : *peak;
    *squares += (double)g * g;
}

/* Measure elements begin … end - 1; NaN of any is NaN in both. */
INLINE struct measure measured(const void *data, enum format format, int64_t begin, int64_t end)
{
    double squares[LANES] = {0};
    uint32_t peaks[LANES] = {0};
    for (int64_t at = begin; at < end; at += RUN) {
        const int64_t count = at + RUN < end ? RUN : end - at;
        float room[RUN];
        prepare(data, format, at, count, room);
        int64_t i = 0;
        for (; i + LANES <= count; i += LANES)
#pragma omp simd
            for (int64_t lane = 0; lane < LANES; lane++)
                look_at(get(data, format, at, i + lane, room), squares + lane, peaks + lane);
        for (; i < count; i++)
            look_at(get(data, format, at, i, room), squares, peaks);
    }
    double sum = 0;
    uint32_t peak = 0;
    for (int64_t lane = 0; lane < LANES; lane++) {
        sum += squares[lane];
        peak = peaks[lane] > peak ? peaks[lane] : peak;
    }
    return (struct measure){sum, float_of(peak)};
}

/* Measure one part of every gradient. */
void measure(const struct gradient *gradients, int64_t tensors, int64_t part, int64_t parts,
             struct measure *found)
{
    for (const struct gradient *g = gradients; g < gradients + tensors; g++) {
        const int64_t begin = begin_of(g->count, part, parts);
        const int64_t end = begin_of(g->count, part + 1, parts);
        *found++ = g->format == FLOAT32    ? measured(g->data, FLOAT32, begin, end)
                   : g->format == BFLOAT16 ? measured(g->data, BFLOAT16, begin, end)
                                           : measured(g->data, FLOAT16, begin, end);
    }
}

/* A gradient beside the average of its squares, which may lag behind it. */
struct lag {
    struct gradient grad;
    const void *second; /* the average, or its root in float16, over `read` */
    int32_t format;     /* of it */
    float read;
    float rise_second; /* 1 − β₂ */
    float correction;  /* 1 − β₂ᵗ */
    float least;       /* ε² */
};

/* Return the sum of g² / max(v̂, ε²) over elements begin … end - 1. */
INLINE double excess(const struct lag *lag, int64_t begin, int64_t end, enum format grads,
                     enum format averages)
{
    float room[2][RUN];
    double total = 0;
    const void *grad = lag->grad.data, *second = lag->second;
    for (int64_t at = begin; at < end; at += RUN) {
        const int64_t count = at + RUN < end ? RUN : end - at;
        prepare(grad, grads, at, count, room[0]);
        prepare(second, averages, at, count, room[1]);
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < count; i++) {
            const float g = get(grad, grads, at, i, room[0]);
            const float square = g * g, stored = get(second, averages, at, i, room[1]) * lag->read;
            const float before = averages == FLOAT16 ? stored * stored : stored;
            const float v = fmaf(lag->rise_second, square - before, before) / lag->correction;
            total += square / (v < lag->least ? lag->least : v);
        }
    }
    return total;
}

#define EXCESS(grads, averages)                                                                    \
    case 3 * grads + averages: *found++ = excess(l, begin, end, grads, averages); break;

/* Write the excess of one part of every tensor. */
void excesses(const struct lag *lags, int64_t tensors, int64_t part, int64_t parts, double *found)
{
    for (const struct lag *l = lags; l < lags + tensors; l++) {
        const int64_t begin = begin_of(l->grad.count, part, parts);
        const int64_t end = begin_of(l->grad.count, part + 1, parts);
        switch (3 * l->grad.format + l->format) {
            EXCESS(FLOAT32, FLOAT32)
            EXCESS(FLOAT32, BFLOAT16)
            EXCESS(FLOAT32, FLOAT16)
            EXCESS(BFLOAT16, FLOAT32)
            EXCESS(BFLOAT16, BFLOAT16)
            EXCESS(BFLOAT16, FLOAT16)
            EXCESS(FLOAT16, FLOAT32)
            EXCESS(FLOAT16, BFLOAT16)
            EXCESS(FLOAT16, FLOAT16)
        }
    }
}

/* Write the bytes of every description, for whoever writes them elsewhere. */
void sizes(int64_t *found)
{
    found[0] = sizeof(struct step);
    found[1] = sizeof(struct gradient);
    found[2] = sizeof(struct lag);
}
