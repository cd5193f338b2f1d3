#!/usr/bin/env python3
"""Predicts digits in a program without PyTorch, through the library of digits_predictor.cpp and its functions of C.

    predict.py LIBRARY CHECKPOINT [IMAGES]

IMAGES is a file of float32, 784 for each image; without it there is one blank image. Prints a line of ten logits for each.
"""
import array
import ctypes
import math
import sys


def load(path):
    library = ctypes.CDLL(path)
    predictor, size, floats = ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_float)
    sizes = ctypes.POINTER(size)
    library.troupe_last_error.restype = ctypes.c_char_p
    library.troupe_predictor_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(predictor)]
    library.troupe_predictor_close.argtypes = [predictor]
    library.troupe_predictor_close.restype = None
    for side in ("input", "output"):
        getattr(library, f"troupe_predictor_{side}_rank").argtypes = [predictor, sizes]
        getattr(library, f"troupe_predictor_{side}_shape").argtypes = [predictor, sizes, size]
    library.troupe_predictor_predict.argtypes = [predictor, floats, size, floats, size]
    return library


class Predictor:
    def __init__(self, library, name, checkpoint):
        self.library, self.handle = library, ctypes.c_void_p()
        self.call("open", name.encode(), checkpoint.encode(), ctypes.byref(self.handle))

    def call(self, function, *arguments):
        if getattr(self.library, f"troupe_predictor_{function}")(*arguments) != 0:
            raise RuntimeError(self.library.troupe_last_error().decode())

    def close(self):
        self.library.troupe_predictor_close(self.handle)
        self.handle = ctypes.c_void_p()

    def shape(self, side):
        rank = ctypes.c_int64()
        self.call(f"{side}_rank", self.handle, ctypes.byref(rank))
        sizes = (ctypes.c_int64 * rank.value)()
        self.call(f"{side}_shape", self.handle, sizes, rank)
        return list(sizes)

    def predict(self, numbers):
        """Lists of numbers, one for each row of `numbers`, an array("f")."""
        width, out_width = math.prod(self.shape("input")), math.prod(self.shape("output"))
        rows, rest = divmod(len(numbers), width)
        if rest != 0:
            raise ValueError(f"{len(numbers)} numbers are not a multiple of {width}")
        given = (ctypes.c_float * len(numbers)).from_buffer(numbers)
        out = (ctypes.c_float * (rows * out_width))()
        self.call("predict", self.handle, given, rows, out, len(out))
        return [list(out[row * out_width:(row + 1) * out_width]) for row in range(rows)]


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(f"usage: {sys.argv[0]} LIBRARY CHECKPOINT [IMAGES]")
    try:
        digits = Predictor(load(sys.argv[1]), "digits", sys.argv[2])
        images = array.array("f", bytes(4 * math.prod(digits.shape("input"))))
        if len(sys.argv) == 4:
            with open(sys.argv[3], "rb") as file:
                images = array.array("f", file.read())
        for logits in digits.predict(images):
            print(*logits)
        digits.close()
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")


if __name__ == "__main__":
    main()
