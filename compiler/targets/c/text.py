"""The frame of a C file and its header, and the program that runs one to prove it."""

from __future__ import annotations

from bcgraph.compiler.targets.c.emitter import Code

HEADER = """\
/* {title}
 *
 * Written by bcgraph. One step of a spiking network for one sample: nothing is allocated, nothing is kept outside of
 * the struct.
 *
 *     static {prefix}_state state;
 *     {prefix}_reset(&state);                  before each sample
 *     {prefix}_step(&state, frame, out);       {steps} times, {feed}
 *
 * `frame` is [{input}], {raw}. The prediction is the largest of {readout}.
 */
#ifndef {guard}_H
#define {guard}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {guard}_INPUTS {inputs}
#define {guard}_CLASSES {classes}
#define {guard}_STEPS {steps}

typedef struct {{
    {members}
}} {prefix}_state;

void {prefix}_reset({prefix}_state *state);
void {prefix}_step({prefix}_state *state, const float *frame, float *out);

#ifdef __cplusplus
}}
#endif

#endif
"""

SOURCE = """\
/* {title}
 *
 * Written by bcgraph; {prefix}.h tells how to use it. {numbers}.
 * With NET_SPIKES(port, values, count) defined, it is called with what each port sends.
 *
{about} *
{specification}
 */
#include "{header}"

#include <math.h>

{functions}

{tables}

void {prefix}_reset({prefix}_state *state)
{{
    unsigned char *byte = (unsigned char *)state;
    for (unsigned long i = 0; i < sizeof *state; i++) {{
        byte[i] = 0;
    }}
}}

void {prefix}_step({prefix}_state *state, const float *frame, float *out)
{{
    {prefix}_state *const s = state;
{step}
}}
"""

RUNNER = """\
#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>

static FILE *spikes;
static float number;
#define NET_SPIKES(port, values, count)            \\
    for (int k = 0; k < (count); k++) {{           \\
        number = (float)(values)[k];               \\
        fwrite(&number, sizeof number, 1, spikes); \\
    }}

#include "{source}"

int main(int count, char **paths)
{{
    static {prefix}_state state;
    static float frame[{guard}_INPUTS], out[{guard}_CLASSES];
    if (count != 6) {{
        return 2;
    }}
    FILE *in = fopen(paths[1], "rb"), *to = fopen(paths[2], "wb");
    spikes = fopen(paths[3], "wb");
    const int samples = atoi(paths[4]), steps = atoi(paths[5]);
    if (in == 0 || to == 0 || spikes == 0) {{
        return 3;
    }}
    for (int n = 0; n < samples; n++) {{
        {prefix}_reset(&state);
        for (int t = 0; t < steps; t++) {{
            if (fread(frame, sizeof *frame, {guard}_INPUTS, in) != {guard}_INPUTS) {{
                return 4;
            }}
            {prefix}_step(&state, frame, out);
            fwrite(out, sizeof *out, {guard}_CLASSES, to);
        }}
    }}
    return fclose(in) | fclose(to) | fclose(spikes);
}}
"""


def indented(lines: tuple[str, ...]) -> str:
    """The body of a function; what the preprocessor reads stays at the margin."""
    return "\n".join(line if line.startswith("#") else f"    {line}" for line in lines)


def source(code: Code, **named: object) -> str:
    """The C file."""
    parts = {"functions": "\n".join(code.functions), "tables": "\n\n".join(code.tables), "step": indented(code.step)}
    return SOURCE.format(**parts, **named)


def header(code: Code, **named: object) -> str:
    """The header."""
    return HEADER.format(members="\n    ".join(code.members), **named)
