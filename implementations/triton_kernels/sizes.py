"""The numbers of a launch for whose values no kernel is compiled anew."""

#: Triton compiles a kernel once more where a number is 1 and once where it is a multiple of 16: for
#: each kind of length a batch may have, another wait. Rows begin at multiples of K, V and D, which
#: are constants, so what it would learn changes no access to memory. Sizes of parts are not here:
#: where a part begins tells how wide its stores may be.
SIZES = ("T", "H", "L", "segments", "part_gate")
