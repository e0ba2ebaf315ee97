"""One kernel of a compiled library, launched on a CPU; a violation ends this process.

    python launch_on_cpu.py LIBRARY KERNEL THREADS BLOCKS BYTES SEED

Its one argument has room for 256 floats, 0 at first, which are printed as JSON. It imports nothing
that takes time.
"""

from __future__ import annotations

import ctypes
import json
import sys


def main(path: str, kernel: str, *numbers: str) -> None:
    threads, blocks, size, seed = map(int, numbers)
    library = ctypes.CDLL(path)
    library.seed(seed)
    out = (ctypes.c_float * 256)()
    address = ctypes.c_void_p(ctypes.addressof(out))
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(address))
    grid = (ctypes.c_uint * 3)(blocks, 1, 1)
    block = (ctypes.c_uint * 2)(threads, 1)
    library[f"launch_cuda_fwp_{kernel}"](grid, block, ctypes.c_size_t(size), arguments)
    print(json.dumps(list(out)))


if __name__ == "__main__":
    main(*sys.argv[1:])
