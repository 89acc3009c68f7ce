"""The C functions that a file is made of, each written into it only if it is called.

Values of an image are stored channels last, `[H][W][C]`, so that the inner loop of a convolution runs over the
channels that it makes. `{x}` and `{w}` are the types of values and weights: float, or uint8_t for spikes and other
whole numbers, and int8_t for weights in 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping

WINDOW = """\
/* Channels and places before, the same after, then kernel, stride, padding, dilation along both axes, and groups. */
typedef struct {
    int c, h, w, o, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw, groups;
} window_t;
"""

# Each value that is not zero is added to all places that it reaches: silent neurons cost one comparison.
_SCATTER = """\
    for (int iy = 0; iy < n->h; iy++) {{
        for (int ix = 0; ix < n->w; ix++) {{
            const {x} *from = x + (iy * n->w + ix) * n->c;
            for (int c = 0; c < n->c; c++) {{
                if (from[c] == 0) {{
                    continue;
                }}
                const {sum} value = ({sum})from[c];
                const int first = c / (n->c / n->groups) * width;
                for (int ky = 0; ky < n->kh; ky++) {{
                    const int y0 = iy + n->ph - ky * n->dh;
                    if (y0 < 0 || y0 % n->sh != 0 || y0 / n->sh >= n->oh) {{
                        continue;
                    }}
                    for (int kx = 0; kx < n->kw; kx++) {{
                        const int x0 = ix + n->pw - kx * n->dw;
                        if (x0 < 0 || x0 % n->sw != 0 || x0 / n->sw >= n->ow) {{
                            continue;
                        }}
                        const {w} *row = w + ((ky * n->kw + kx) * n->c + c) * width;
                        {sum} *to = {to} + (y0 / n->sh * n->ow + x0 / n->sw) * n->o + first;
                        for (int o = 0; o < width; o++) {{
                            to[o] += value * row[o];
                        }}
                    }}
                }}
            }}
        }}
    }}
"""

_CONV = (
    """\
static void conv_{name}(const window_t *n, const {x} *x, const {w} *w, const float *bias, float *y)
{{
    const int width = n->o / n->groups, places = n->oh * n->ow;
    for (int i = 0; i < places; i++) {{
        for (int o = 0; o < n->o; o++) {{
            y[i * n->o + o] = bias == 0 ? 0.0f : bias[o];
        }}
    }}
"""
    + _SCATTER
    + "}}\n"
)

# Weights in 8 bits: whole numbers are added up as such, and scaled once for each result.
_CONV_WHOLE = (
    """\
static void conv_{name}(const window_t *n, const {x} *x, const {w} *w, const float *scale, const float *bias,
                        int32_t *sums, float *y)
{{
    const int width = n->o / n->groups, places = n->oh * n->ow;
    for (int i = 0; i < places * n->o; i++) {{
        sums[i] = 0;
    }}
"""
    + _SCATTER
    + """\
    for (int i = 0; i < places; i++) {{
        for (int o = 0; o < n->o; o++) {{
            y[i * n->o + o] = (float)sums[i * n->o + o] * scale[o] + (bias == 0 ? 0.0f : bias[o]);
        }}
    }}
}}
"""
)

_CONV_SCALED = (
    """\
static void conv_{name}(const window_t *n, const {x} *x, const {w} *w, const float *scale, const float *bias, float *y)
{{
    const int width = n->o / n->groups, places = n->oh * n->ow;
    for (int i = 0; i < places * n->o; i++) {{
        y[i] = 0.0f;
    }}
"""
    + _SCATTER
    + """\
    for (int i = 0; i < places; i++) {{
        for (int o = 0; o < n->o; o++) {{
            y[i * n->o + o] = y[i * n->o + o] * scale[o] + (bias == 0 ? 0.0f : bias[o]);
        }}
    }}
}}
"""
)


def convolution(numbers: str, whole: bool) -> tuple[str, str]:
    """The name and the text of a convolution of spikes (`whole`) or floats, by weights in `float` or `int8`."""
    name = ("spikes" if whole else "floats") + ("_int8" if numbers == "int8" else "")
    text = {("float", True): _CONV, ("float", False): _CONV, ("int8", True): _CONV_WHOLE, ("int8", False): _CONV_SCALED}
    summed = numbers == "int8" and whole
    return f"conv_{name}", text[numbers, whole].format(
        name=name,
        x="uint8_t" if whole else "float",
        w="int8_t" if numbers == "int8" else "float",
        sum="int32_t" if summed else "float",
        to="sums" if summed else "y",
    )


_POOL_LOOP = """\
    for (int oy = 0; oy < n->oh; oy++) {
        for (int ox = 0; ox < n->ow; ox++) {
            int y0 = oy * n->sh - n->ph, x0 = ox * n->sw - n->pw;
            int y1 = y0 + n->kh, x1 = x0 + n->kw;
"""

AVERAGE = (
    """\
static void average_{name}(const window_t *n, const {x} *x, float *y)
{
"""
    + _POOL_LOOP
    + """\
            y1 = y1 < n->h + n->ph ? y1 : n->h + n->ph;
            x1 = x1 < n->w + n->pw ? x1 : n->w + n->pw;
            const float share = (float)((y1 - y0) * (x1 - x0));
            y0 = y0 > 0 ? y0 : 0;
            x0 = x0 > 0 ? x0 : 0;
            y1 = y1 < n->h ? y1 : n->h;
            x1 = x1 < n->w ? x1 : n->w;
            for (int c = 0; c < n->c; c++) {
                float sum = 0.0f;
                for (int iy = y0; iy < y1; iy++) {
                    for (int ix = x0; ix < x1; ix++) {
                        sum += (float)x[(iy * n->w + ix) * n->c + c];
                    }
                }
                y[(oy * n->ow + ox) * n->c + c] = sum / share;
            }
        }
    }
}
"""
)

LARGEST = (
    """\
static void largest_{name}(const window_t *n, const {x} *x, {x} *y)
{
"""
    + _POOL_LOOP
    + """\
            y0 = y0 > 0 ? y0 : 0;
            x0 = x0 > 0 ? x0 : 0;
            y1 = y1 < n->h ? y1 : n->h;
            x1 = x1 < n->w ? x1 : n->w;
            for (int c = 0; c < n->c; c++) {
                {x} most = x[(y0 * n->w + x0) * n->c + c];
                for (int iy = y0; iy < y1; iy++) {
                    for (int ix = x0; ix < x1; ix++) {
                        const {x} here = x[(iy * n->w + ix) * n->c + c];
                        most = here > most ? here : most;
                    }
                }
                y[(oy * n->ow + ox) * n->c + c] = most;
            }
        }
    }
}
"""
)

_ADAPTIVE_BOUNDS = """\
            int y0 = oy * n->h / n->oh, y1 = ((oy + 1) * n->h + n->oh - 1) / n->oh;
            int x0 = ox * n->w / n->ow, x1 = ((ox + 1) * n->w + n->ow - 1) / n->ow;
"""


def _adaptive(text: str) -> str:
    head, _, rest = text.partition("            int y0 = oy * n->sh")
    _, _, tail = rest.partition("int y1 = y0 + n->kh, x1 = x0 + n->kw;\n")
    return head.replace("static void ", "static void adaptive_") + _ADAPTIVE_BOUNDS + tail


ADAPTIVE_AVERAGE, ADAPTIVE_LARGEST = _adaptive(AVERAGE), _adaptive(LARGEST)

NEAREST = """\
static void nearest_{name}(const {x} *x, {x} *y, int h, int w, int c, int oh, int ow)
{
    for (int i = 0; i < oh * ow; i++) {
        const {x} *from = x + (i / ow * h / oh * w + i % ow * w / ow) * c;
        for (int k = 0; k < c; k++) {
            y[i * c + k] = from[k];
        }
    }
}
"""

TURN = """\
/* [H][W][C] as [C][H][W]. */
static void turn_{name}(const {x} *x, {x} *y, int places, int c)
{
    for (int i = 0; i < places; i++) {
        for (int k = 0; k < c; k++) {
            y[k * places + i] = x[i * c + k];
        }
    }
}
"""

NAMES: Mapping[str, str] = {"float": "floats", "uint8_t": "spikes"}
"""What functions are called by the type of what they read."""


def typed(text: str, kind: str) -> str:
    """A function for values of the C type `kind`."""
    return text.replace("{name}", NAMES[kind]).replace("{x}", kind)
