"""A Cortex-M in an emulator: compiles a C file for it, runs it, and reads what it prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

# The memory of the MPS2 board with an M4: code at 0, data at 0x20000000.
LINK = """
MEMORY { FLASH (rx) : ORIGIN = 0x00000000, LENGTH = 4M
         RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 4M }
ENTRY(start)
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) . = ALIGN(8); } > FLASH
  .ARM.exidx : { *(.ARM.exidx*) } > FLASH
  .data : { *(.data*) . = ALIGN(8); } > RAM
  .bss : { *(.bss*) *(COMMON) . = ALIGN(8); } > RAM
}
"""

MAIN = """
#include <stdint.h>
#include "{source}"

static const float frames[] = {{ {frames} }};

static void call(int what, const void *with)
{{
    register int r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = with;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}}

static void print(uint32_t bits)
{{
    char text[10];
    for (int i = 0; i < 8; i++) {{
        text[i] = "0123456789abcdef"[bits >> (28 - 4 * i) & 15];
    }}
    text[8] = '\\n';
    text[9] = 0;
    call(4, text);
}}

void start(void)
{{
    static {prefix}_state state;
    static float out[{guard}_CLASSES];
    *(volatile uint32_t *)0xE000ED88 |= 0xF << 20;  /* the floating-point unit */
    for (int n = 0; n < {samples}; n++) {{
        {prefix}_reset(&state);
        for (int t = 0; t < {steps}; t++) {{
            {prefix}_step(&state, frames + (n * {steps} + t) * {guard}_INPUTS, out);
            for (int k = 0; k < {guard}_CLASSES; k++) {{
                union {{ float f; uint32_t u; }} bits = {{ out[k] }};
                print(bits.u);
            }}
        }}
    }}
    call(0x18, (const void *)0x20026);
    for (;;) {{
    }}
}}

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[] = {{ 0x20400000, (uintptr_t)start }};
"""
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")


def run(cross: str, qemu: str, folder: Path, source: Path, prefix: str, frames: np.ndarray) -> np.ndarray:
    """The outputs `[samples, steps, classes]` of a network on an emulated Cortex-M4."""
    samples, steps = frames.shape[:2]
    numbers = ", ".join(f"{v!r}f" for v in frames.reshape(-1).astype(float).tolist())
    named = {"source": source.resolve(), "prefix": prefix, "guard": prefix.upper(), "samples": samples, "steps": steps}
    main, link, image = folder / "main.c", folder / "board.ld", folder / "board.elf"
    main.write_text(MAIN.format(frames=numbers, **named))
    link.write_text(LINK)
    flags = ["-std=gnu99", "-O2", "-ffp-contract=off", "-ffreestanding", "-nostartfiles", "-T", str(link)]
    subprocess.run([cross, *CPU, *flags, str(main), "-o", str(image), "-lm"], check=True, timeout=300)
    machine = ["-M", "mps2-an386", "-nographic", "-semihosting-config", "enable=on,target=native", "-kernel"]
    done = subprocess.run([qemu, *machine, str(image)], check=False, capture_output=True, text=True, timeout=300)
    words = [int(word, 16) for word in (done.stdout + done.stderr).split()]
    return np.array(words, dtype=np.uint32).view(np.float32).reshape(samples, steps, -1)
