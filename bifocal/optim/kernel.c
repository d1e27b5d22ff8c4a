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

#define LINE 64  /* elements that may share a line of a cache */
#define RUN 128   /* elements that are read at a time; few enough for the fastest cache */
#define AHEAD 256 /* elements; a processor does not look beyond the end of a page by itself */
#define INLINE static inline __attribute__((always_inline))

/* An array, what of it is rounded how: `cuts` holds a place in the deck for every block. */
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

/* Return elements begin … begin + count - 1, at most RUN, in float32: where they are, or in `room`. */
INLINE const float *wide(const void *from, enum format format, int64_t begin, int64_t count,
                         float *restrict room)
{
    const int64_t size = format == FLOAT32 ? sizeof(float) : sizeof(uint16_t);
    const char *data = (const char *)from + begin * size;
    for (int64_t byte = 0; byte < RUN * size; byte += 64)
        __builtin_prefetch(data + AHEAD * size + byte);
    if (format == FLOAT32)
        return (const float *)data;
    const uint16_t *restrict halves = (const uint16_t *)data;
    int64_t i = 0;
    if (format == BFLOAT16)
        for (; i < count; i++)
            room[i] = of_bfloat16(halves[i]);
#ifdef __F16C__
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(room + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(halves + i))));
#endif
    for (; i < count; i++)
        room[i] = of_float16(halves[i]);
    return room;
}

/* Store a number as one of its two neighbours in a format. */
INLINE void put(const struct stored *to, enum format format, int64_t i, float value, uint32_t noise)
{
    if (format == FLOAT32) {
        ((float *)to->data)[i] = value;
        return;
    }
    const float scaled = value * to->write[0] * to->write[1];
    uint16_t *data = to->data;
    data[i] = format == BFLOAT16 ? to_bfloat16(scaled, noise) : to_float16(scaled, noise >> 3);
}

/* Move elements begin … end - 1, all of one block. */
INLINE void move_block(const struct step *s, int64_t begin, int64_t end, enum format weights,
                       enum format averages)
{
    const struct stored weight = s->weight, first = s->first, second = s->second;
    const int64_t block = (s->here + begin) / BLOCK;
    const int64_t place = s->here + begin - block * BLOCK; /* of the first one, in its block */
    const uint16_t *restrict of_weight = s->deck + weight.cuts[block] + place;
    const uint16_t *restrict of_first = s->deck + first.cuts[block] + place;
    const uint16_t *restrict of_second = s->deck + second.cuts[block] + place;
    const int near = s->rise_first < 0.5f; /* lerp starts from the nearer end */
    const float share = near ? s->rise_first : s->rise_first - 1;

    for (int64_t at = begin; at < end; at += RUN) {
        const int64_t count = at + RUN < end ? RUN : end - at;
        float room[4][RUN];
        const float *restrict grads = wide(s->grad, weights, at, count, room[0]);
        const float *kept = wide(weight.data, weights, at, count, room[1]); /* may be written to */
        const float *firsts = wide(first.data, averages, at, count, room[2]);
        const float *seconds = wide(second.data, averages, at, count, room[3]);

#pragma omp simd
        for (int64_t i = 0; i < count; i++) {
            const float g = grads[i];
            float m = firsts[i] * first.read;
            float v = seconds[i] * second.read;
            if (averages == FLOAT16)
                v *= v; /* its root is what is kept */
            m = fmaf(share, g - m, near ? m : g);
            v = fmaf(s->rise_second * g, g, s->decay_second * v);
            const float moved = kept[i] * s->keep + s->rate * m / (sqrtf(v) / s->root + s->eps);
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

/* Measure elements begin … end - 1; NaN of any is NaN in both. */
static struct measure measured(const struct gradient *gradient, int64_t begin, int64_t end)
{
    float room[RUN];
    double squares = 0;
    uint32_t peak = 0;
    for (int64_t at = begin; at < end; at += RUN) {
        const int64_t count = at + RUN < end ? RUN : end - at;
        const float *restrict g = wide(gradient->data, gradient->format, at, count, room);
#pragma omp simd reduction(+ : squares) reduction(max : peak)
        for (int64_t i = 0; i < count; i++) {
            const uint32_t magnitude = bits_of(g[i]) & 0x7fffffff; /* ordered as the numbers are */
            peak = magnitude > peak ? magnitude : peak;
            squares += (double)g[i] * g[i];
        }
    }
    return (struct measure){squares, float_of(peak)};
}

/* Measure one part of every gradient. */
void measure(const struct gradient *gradients, int64_t tensors, int64_t part, int64_t parts,
             struct measure *found)
{
    for (const struct gradient *g = gradients; g < gradients + tensors; g++)
        *found++ = measured(g, begin_of(g->count, part, parts), begin_of(g->count, part + 1, parts));
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
INLINE double excess(const struct lag *lag, int64_t begin, int64_t end, int rooted)
{
    float room[2][RUN];
    double total = 0;
    for (int64_t at = begin; at < end; at += RUN) {
        const int64_t count = at + RUN < end ? RUN : end - at;
        const float *restrict g = wide(lag->grad.data, lag->grad.format, at, count, room[0]);
        const float *restrict second = wide(lag->second, lag->format, at, count, room[1]);
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < count; i++) {
            const float square = g[i] * g[i], stored = second[i] * lag->read;
            const float before = rooted ? stored * stored : stored;
            const float v = fmaf(lag->rise_second, square - before, before) / lag->correction;
            total += square / (v < lag->least ? lag->least : v);
        }
    }
    return total;
}

/* Write the excess of one part of every tensor. */
void excesses(const struct lag *lags, int64_t tensors, int64_t part, int64_t parts, double *found)
{
    for (const struct lag *l = lags; l < lags + tensors; l++) {
        const int64_t begin = begin_of(l->grad.count, part, parts);
        const int64_t end = begin_of(l->grad.count, part + 1, parts);
        *found++ = l->format == FLOAT16 ? excess(l, begin, end, 1) : excess(l, begin, end, 0);
    }
}

/* Write the bytes of every description, for whoever writes them elsewhere. */
void sizes(int64_t *found)
{
    found[0] = sizeof(struct step);
    found[1] = sizeof(struct gradient);
    found[2] = sizeof(struct lag);
}
