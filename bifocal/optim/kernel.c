/* A step of AdamW over a tensor of which something is kept in 16 bits: one pass over memory.

   What update.py does part by part: read to float32, move by AdamW's formulas (adamw.py), round
   stochastically on the way back (rounding.py). The order of operations is that of torch's fused
   kernel, so that the results are the same bits. kernel.py compiles it, with BLOCK, the elements that
   share one cut of the deck, and calls it. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum format { FLOAT32, BFLOAT16, FLOAT16 };

#define LINE 64 /* elements that may share a line of a cache */
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define NO_ALIASES _Pragma("clang loop vectorize(assume_safety)")
#else
#define NO_ALIASES _Pragma("GCC ivdep")
#endif

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

INLINE float widened(const void *from, enum format format, int64_t i)
{
    switch (format) {
    case BFLOAT16: return float_of((uint32_t)((const uint16_t *)from)[i] << 16);
    case FLOAT16: return of_float16(((const uint16_t *)from)[i]);
    default: return ((const float *)from)[i];
    }
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

    NO_ALIASES
    for (int64_t i = begin; i < end; i++) {
        const float g = widened(s->grad, weights, i);
        float m = widened(first.data, averages, i) * first.read;
        float v = widened(second.data, averages, i) * second.read;
        if (averages == FLOAT16)
            v *= v; /* its root is what is kept */
        m = fmaf(share, g - m, near ? m : g);
        v = fmaf(s->rise_second * g, g, s->decay_second * v);
        const float kept = widened(weight.data, weights, i) * s->keep;
        const float moved = kept + s->rate * m / (sqrtf(v) / s->root + s->eps);
        put(&weight, weights, i, moved, of_weight[i - begin]);
        put(&first, averages, i, m, of_first[i - begin]);
        put(&second, averages, i, averages == FLOAT16 ? sqrtf(v) : v, of_second[i - begin]);
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

/* Move one part of every tensor. */
void move(const struct step *steps, int64_t tensors, int64_t part, int64_t parts)
{
    for (const struct step *s = steps; s < steps + tensors; s++)
        move_range(s, begin_of(s->count, part, parts), begin_of(s->count, part + 1, parts));
}

struct array {
    const void *data;
    int32_t format;
    int64_t count;
};

/* Return max |x| of elements begin … end - 1, NaN where one is: magnitudes are ordered as bits. */
static float peak(const struct array *a, int64_t begin, int64_t end)
{
    if (a->format == FLOAT32) {
        uint32_t most = 0;
        for (int64_t i = begin; i < end; i++) {
            const uint32_t magnitude = ((const uint32_t *)a->data)[i] & 0x7fffffff;
            most = magnitude > most ? magnitude : most;
        }
        return float_of(most);
    }
    uint16_t most = 0;
    for (int64_t i = begin; i < end; i++) {
        const uint16_t magnitude = ((const uint16_t *)a->data)[i] & 0x7fff;
        most = magnitude > most ? magnitude : most;
    }
    return widened(&most, a->format, 0);
}

/* Write max |x| of one part of every array. */
void peaks(const struct array *arrays, int64_t count, int64_t part, int64_t parts, float *found)
{
    for (const struct array *a = arrays; a < arrays + count; a++)
        *found++ = peak(a, begin_of(a->count, part, parts), begin_of(a->count, part + 1, parts));
}

/* Bytes of a description, for whoever writes them elsewhere. */
int64_t size_of_step(void)
{
    return sizeof(struct step);
}
